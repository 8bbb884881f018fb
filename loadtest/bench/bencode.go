package bench

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// encode writes a value in bencoding (BEP 3): strings, integers, lists of them,
// dictionaries.
func encode(v any) []byte {
	var b bytes.Buffer
	write(&b, v)
	return b.Bytes()
}

func write(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case string:
		fmt.Fprintf(b, "%d:%s", len(v), v)
	case int:
		fmt.Fprintf(b, "i%de", v)
	case []any:
		b.WriteByte('l')
		for _, e := range v {
			write(b, e)
		}
		b.WriteByte('e')
	case map[string]any:
		b.WriteByte('d')
		for _, k := range slices.Sorted(maps.Keys(v)) {
			write(b, k)
			write(b, v[k])
		}
		b.WriteByte('e')
	default:
		panic(fmt.Sprintf("bencoding of a %T", v))
	}
}

// decode reads one value and answers what follows it.
func decode(s string) (value any, rest string, err error) {
	if s == "" {
		return nil, "", fmt.Errorf("bencoding: ends early")
	}
	switch s[0] {
	case 'i':
		text, rest, ok := strings.Cut(s[1:], "e")
		n, err := strconv.Atoi(text)
		if !ok || err != nil {
			return nil, "", fmt.Errorf("bencoding: no integer: %.20q", s)
		}
		return n, rest, nil
	case 'l', 'd':
		return decodeMany(s[0] == 'd', s[1:])
	}
	text, rest, ok := strings.Cut(s, ":")
	n, err := strconv.Atoi(text)
	if !ok || err != nil || n < 0 || n > len(rest) {
		return nil, "", fmt.Errorf("bencoding: no string: %.20q", s)
	}
	return rest[:n], rest[n:], nil
}

func decodeMany(dictionary bool, s string) (any, string, error) {
	var all []any
	for !strings.HasPrefix(s, "e") {
		v, rest, err := decode(s)
		if err != nil {
			return nil, "", err
		}
		all, s = append(all, v), rest
	}
	if !dictionary {
		return all, s[1:], nil
	}
	d := map[string]any{}
	for i := 0; i+1 < len(all); i += 2 {
		k, ok := all[i].(string)
		if !ok {
			return nil, "", fmt.Errorf("bencoding: a key is no string")
		}
		d[k] = all[i+1]
	}
	return d, s[1:], nil
}
