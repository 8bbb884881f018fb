package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Sources of a configuration beside its defaults.
type Sources struct {
	// File in YAML; empty for none.
	File string
	// Prefix of environment variables, "ISTHMUS"; empty reads none. A key such
	// as store.dsn is ISTHMUS_STORE_DSN; lists and maps are written in YAML.
	Prefix string
	// Environ in the form of os.Environ.
	Environ []string
	// Ignore names variables that begin with the prefix but are no keys.
	Ignore []string
	// Set are key=value pairs from the command line.
	Set []string
}

// Load fills config, a pointer to a struct that holds the defaults.
func Load(config any, s Sources) error {
	if s.File != "" {
		text, err := os.ReadFile(s.File)
		if err != nil {
			return fmt.Errorf("read the configuration: %w", err)
		}
		if err := decode(text, config); err != nil {
			return fmt.Errorf("configuration file %s: %w", s.File, err)
		}
	}
	keys := keysOf(config)
	if err := fromEnviron(keys, s); err != nil {
		return err
	}
	for _, pair := range s.Set {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("--set %s: want key=value", pair)
		}
		i := slices.IndexFunc(keys, func(k key) bool { return k.path == name })
		if i < 0 {
			return fmt.Errorf("--set %s: there is no key %q", pair, name)
		}
		if err := keys[i].set(value); err != nil {
			return fmt.Errorf("--set %s: %w", pair, err)
		}
	}
	return nil
}

// decode reads strict YAML; an empty document changes nothing.
func decode(text []byte, into any) error {
	err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict(), yaml.DisallowUnknownField()).Decode(into)
	if err != nil && !errors.Is(err, io.EOF) {
		return errors.New(yaml.FormatError(err, false, true))
	}
	return nil
}

func fromEnviron(keys []key, s Sources) error {
	if s.Prefix == "" {
		return nil
	}
	for _, pair := range s.Environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, s.Prefix+"_") || slices.Contains(s.Ignore, name) {
			continue
		}
		i := slices.IndexFunc(keys, func(k key) bool { return k.variable(s.Prefix) == name })
		if i < 0 {
			return fmt.Errorf("environment variable %s names no configuration key", name)
		}
		if err := keys[i].set(value); err != nil {
			return fmt.Errorf("environment variable %s: %w", name, err)
		}
	}
	return nil
}

// key is one leaf of a configuration.
type key struct {
	// path with dots, "store.dsn".
	path   string
	help   string
	secret bool
	value  reflect.Value
}

// variable is the environment variable of a key.
func (k key) variable(prefix string) string {
	return prefix + "_" + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_"))
}

// set parses a value: text as it stands for strings, YAML for all else.
func (k key) set(text string) error {
	if k.value.Kind() == reflect.String {
		k.value.SetString(text)
		return nil
	}
	fresh := reflect.New(k.value.Type())
	if err := decode([]byte(text), fresh.Interface()); err != nil {
		return fmt.Errorf("%s: %w", k.path, err)
	}
	k.value.Set(fresh.Elem())
	return nil
}

// keysOf lists the leaves of a configuration in their order.
func keysOf(config any) []key {
	var keys []key
	walk(reflect.ValueOf(config).Elem(), "", &keys)
	return keys
}

func walk(v reflect.Value, prefix string, keys *[]key) {
	for f, value := range v.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		inline := slices.Contains(strings.Split(options, ","), "inline")
		if name == "" && !inline {
			name = strings.ToLower(f.Name)
		}
		path := strings.TrimPrefix(prefix+"."+name, ".")
		if inline {
			path = prefix
		}
		if isGroup(f.Type) {
			walk(value, path, keys)
			continue
		}
		*keys = append(*keys, key{path: path, help: f.Tag.Get("help"), secret: f.Tag.Get("secret") == "true", value: value})
	}
}

// isGroup tells structs that hold further keys from those that are one value.
func isGroup(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	for f := range t.Fields() {
		if f.Tag.Get("yaml") != "" {
			return true
		}
	}
	return false
}
