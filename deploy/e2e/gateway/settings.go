package gateway

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Settings are configuration keys with dots, and their values.
type Settings map[string]any

// with answers a copy in which other settings replace those of the same key.
func (s Settings) with(other Settings) Settings {
	out := Settings{}
	for _, m := range []Settings{s, other} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// below puts all keys under another.
func (s Settings) below(prefix string) Settings {
	out := Settings{}
	for k, v := range s {
		out[prefix+"."+k] = v
	}
	return out
}

// write makes a configuration file. JSON is YAML.
func (s Settings) write(t testing.TB, dir string) string {
	t.Helper()
	tree := map[string]any{}
	for k, v := range s {
		at := tree
		path := strings.Split(k, ".")
		for _, name := range path[:len(path)-1] {
			next, ok := at[name].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[name] = next
			}
			at = next
		}
		at[path[len(path)-1]] = v
	}
	text, err := json.MarshalIndent(tree, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
