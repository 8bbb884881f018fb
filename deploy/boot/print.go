package boot

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// hidden stands in for secrets that are set.
const hidden = "(hidden)"

// Print writes the configuration as YAML that Load can read, secrets hidden.
func Print(w io.Writer, config any) error {
	shown := deepCopy(reflect.ValueOf(config).Elem())
	hide(shown)
	text, err := yaml.MarshalWithOptions(shown.Addr().Interface(), yaml.Indent(2), yaml.IndentSequence(true))
	if err != nil {
		return fmt.Errorf("print the configuration: %w", err)
	}
	_, err = w.Write(text)
	return err
}

// Reference writes a table in Markdown with every key, its default as config
// holds it, and what it means. Keys of list elements follow their list as key[].
func Reference(w io.Writer, config any) error {
	var b bytes.Buffer
	b.WriteString("# Configuration\n\nEvery key with its default. A key with [] belongs to each element of a list or map.\n\n")
	b.WriteString("| key | default | meaning |\n| --- | --- | --- |\n")
	for _, k := range keysOf(config) {
		writeReference(&b, k)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func writeReference(b *bytes.Buffer, k key) {
	value := ""
	if k.value.IsValid() && !k.value.IsZero() && !k.secret {
		if text, err := yaml.MarshalWithOptions(k.value.Interface(), yaml.Flow(true)); err == nil {
			value = "`" + strings.ReplaceAll(strings.TrimSpace(string(text)), "|", "\\|") + "`"
		}
	}
	fmt.Fprintf(b, "| `%s` | %s | %s |\n", k.path, value, strings.ReplaceAll(k.help, "|", "\\|"))
	t := k.value.Type()
	if (t.Kind() == reflect.Slice || t.Kind() == reflect.Map) && isGroup(t.Elem()) {
		var inner []key
		walk(reflect.New(t.Elem()).Elem(), k.path+"[]", &inner)
		for _, i := range inner {
			writeReference(b, i)
		}
	}
}

// deepCopy copies what hide may change.
func deepCopy(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if out.Field(i).CanSet() {
				out.Field(i).Set(deepCopy(v.Field(i)))
			}
		}
	case reflect.Slice:
		if v.IsNil() {
			break
		}
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(deepCopy(v.Index(i)))
		}
	case reflect.Map:
		if v.IsNil() {
			break
		}
		out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		for name, value := range v.Seq2() {
			out.SetMapIndex(name, deepCopy(value))
		}
	}
	return out
}

// hide replaces secrets that are set, in structs wherever they are.
func hide(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for f, value := range v.Fields() {
			if !f.IsExported() {
				continue
			}
			if f.Tag.Get("secret") == "true" {
				hideValue(value)
				continue
			}
			hide(value)
		}
	case reflect.Slice:
		for i := range v.Len() {
			hide(v.Index(i))
		}
	case reflect.Map:
		for _, name := range v.MapKeys() {
			element := reflect.New(v.Type().Elem()).Elem()
			element.Set(v.MapIndex(name))
			hide(element)
			v.SetMapIndex(name, element)
		}
	}
}

// hideValue hides a secret string, or every string of a secret list or map.
func hideValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if v.Len() > 0 {
			v.SetString(hidden)
		}
	case reflect.Slice:
		for i := range v.Len() {
			hideValue(v.Index(i))
		}
	case reflect.Map:
		names := v.MapKeys()
		slices.SortFunc(names, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, name := range names {
			element := reflect.New(v.Type().Elem()).Elem()
			element.Set(v.MapIndex(name))
			hideValue(element)
			v.SetMapIndex(name, element)
		}
	default:
		v.SetZero()
	}
}
