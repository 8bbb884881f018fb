// Package strictjson reads a JSON object that came from outside: one object and
// nothing after it, every key once (RFC 8259 4 only recommends it), well-formed
// UTF-8 and escapes, bounded nesting. What it accepts means the same to every
// other JSON reader, so that nothing can be smuggled past a check by a parser
// that resolves doubtful input in another way.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"
)

// MaxDepth is how deep objects and arrays may nest; the top-level object counts
// as one.
const MaxDepth = 32

// Object reads data as one JSON object. Values are map[string]any, []any,
// string, float64, bool and nil. The error says what is wrong in words meant for
// the sender.
func Object(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("the body is not UTF-8")
	}
	if !json.Valid(data) {
		return nil, syntaxError(data)
	}
	if err := checkEscapes(data); err != nil {
		return nil, err
	}
	r := reader{tokens: json.NewDecoder(bytes.NewReader(data))}
	r.tokens.UseNumber()
	first, err := r.tokens.Token()
	if err != nil {
		return nil, fmt.Errorf("the body is not JSON: %w", err)
	}
	if first != json.Delim('{') {
		return nil, errors.New("the body must be a JSON object")
	}
	object, err := r.object(1)
	if err != nil {
		return nil, err
	}
	if _, err := r.tokens.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the body goes on after its JSON object")
	}
	return object, nil
}

// syntaxError tells trailing data and plain errors apart and names the offset.
func syntaxError(data []byte) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("the body is empty where a JSON object is expected")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	var first json.RawMessage
	if decoder.Decode(&first) == nil {
		return errors.New("the body goes on after its JSON object")
	}
	var syntax *json.SyntaxError
	var sink any
	if errors.As(json.Unmarshal(data, &sink), &syntax) {
		return fmt.Errorf("the body is not JSON: %s at byte %d", syntax, syntax.Offset)
	}
	return errors.New("the body is not JSON")
}

type reader struct{ tokens *json.Decoder }

func (r reader) object(depth int) (map[string]any, error) {
	object := map[string]any{}
	for r.tokens.More() {
		token, err := r.tokens.Token()
		if err != nil {
			return nil, fmt.Errorf("the body is not JSON: %w", err)
		}
		key, ok := token.(string)
		if !ok {
			return nil, errors.New("the body is not JSON: a property name must be a string")
		}
		if _, double := object[key]; double {
			return nil, fmt.Errorf("the property %q appears twice in one object", clip(key))
		}
		if object[key], err = r.value(depth); err != nil {
			return nil, err
		}
	}
	_, err := r.tokens.Token()
	return object, err
}

func (r reader) array(depth int) ([]any, error) {
	array := []any{}
	for r.tokens.More() {
		v, err := r.value(depth)
		if err != nil {
			return nil, err
		}
		array = append(array, v)
	}
	_, err := r.tokens.Token()
	return array, err
}

func (r reader) value(depth int) (any, error) {
	token, err := r.tokens.Token()
	if err != nil {
		return nil, fmt.Errorf("the body is not JSON: %w", err)
	}
	switch t := token.(type) {
	case json.Delim:
		if depth == MaxDepth {
			return nil, fmt.Errorf("the body nests deeper than %d levels", MaxDepth)
		}
		if t == '{' {
			return r.object(depth + 1)
		}
		return r.array(depth + 1)
	case json.Number:
		f, err := strconv.ParseFloat(t.String(), 64)
		if err != nil || math.IsInf(f, 0) {
			return nil, fmt.Errorf("the number %s is out of range", clip(t.String()))
		}
		return f, nil
	}
	return token, nil
}

// checkEscapes refuses escaped surrogates without a partner, which stand for no
// character, and the character NUL, which no text of these APIs holds and not
// every store can keep. data is valid JSON.
func checkEscapes(data []byte) error {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		i++
		if data[i] != 'u' {
			continue
		}
		unit := hex(data[i+1:])
		i += 4
		switch {
		case unit == 0:
			return errors.New("the body holds the character NUL")
		case unit >= 0xdc00 && unit <= 0xdfff:
			return errors.New("the body holds half of a surrogate pair")
		case unit >= 0xd800 && unit <= 0xdbff:
			rest := data[i+1:]
			if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
				return errors.New("the body holds half of a surrogate pair")
			}
			if low := hex(rest[2:]); low < 0xdc00 || low > 0xdfff {
				return errors.New("the body holds half of a surrogate pair")
			}
			i += 6
		}
	}
	return nil
}

// hex reads the four digits that valid JSON has after \u.
func hex(digits []byte) uint64 {
	v, _ := strconv.ParseUint(string(digits[:4]), 16, 32)
	return v
}

func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
