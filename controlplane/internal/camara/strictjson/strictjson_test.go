package strictjson_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara/strictjson"
	"pgregory.net/rapid"
)

func nested(levels int) string {
	return strings.Repeat(`{"a":`, levels-1) + `{}` + strings.Repeat(`}`, levels-1)
}

func TestObject(t *testing.T) {
	tests := []struct {
		name, in, want string
	}{
		{"empty object", `{}`, ""},
		{"white space around", " \r\n{\t}\n", ""},
		{"values", `{"a":[1,2.5,-3e2,true,null,"x"],"b":{"c":"\u00e9\ud83d\ude00"}}`, ""},
		{"same key in different objects", `{"a":{"a":1},"b":{"a":2}}`, ""},
		{"escaped backslash before u", `{"a":"\\ud800"}`, ""},
		{"deepest", nested(strictjson.MaxDepth), ""},
		{"too deep", nested(strictjson.MaxDepth + 1), "deeper than 32"},
		{"too deep by arrays", `{"a":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`, "deeper than 32"},
		{"duplicate key", `{"a":1,"a":1}`, `"a" appears twice`},
		{"duplicate key, escaped", `{"a":1,"\u0061":2}`, `"a" appears twice`},
		{"duplicate key within", `{"x":[{"b":1,"b":2}]}`, `"b" appears twice`},
		{"trailing object", `{} {}`, "goes on after"},
		{"trailing garbage", `{}x`, "goes on after"},
		{"array", `[]`, "must be a JSON object"},
		{"string", `"{}"`, "must be a JSON object"},
		{"null", `null`, "must be a JSON object"},
		{"empty", ``, "empty"},
		{"blank", "\n ", "empty"},
		{"cut short", `{"a":`, "not JSON"},
		{"trailing comma", `{"a":1,}`, "not JSON"},
		{"comment", `{/**/}`, "not JSON"},
		{"single quotes", `{'a':1}`, "not JSON"},
		{"byte order mark", "\ufeff{}", "not JSON"},
		{"control character", "{\"a\":\"\n\"}", "not JSON"},
		{"NaN", `{"a":NaN}`, "not JSON"},
		{"number out of range", `{"a":1e999}`, "out of range"},
		{"invalid UTF-8", "{\"a\":\"\xff\"}", "not UTF-8"},
		{"lone high surrogate", `{"a":"\ud800"}`, "surrogate"},
		{"lone low surrogate", `{"a":"\udc00"}`, "surrogate"},
		{"high surrogate before another escape", `{"a":"\ud800\u0041"}`, "surrogate"},
		{"NUL", `{"a":"\u0000"}`, "NUL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := strictjson.Object([]byte(tt.in))
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				var want map[string]any
				if err := json.Unmarshal([]byte(tt.in), &want); err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one about %q", err, tt.want)
			}
		})
	}
}

// Whatever Go can marshal is read back as it was.
func TestObjectRoundTrip(t *testing.T) {
	text := rapid.StringMatching(`[^\x00]*`)
	leaf := rapid.OneOf(rapid.Just[any](nil), text.AsAny(), rapid.Bool().AsAny(), rapid.Float64Range(-1e9, 1e9).AsAny())
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]any{}
		for k, v := range rapid.MapOf(text, rapid.OneOf(leaf, rapid.MapOf(text, leaf).AsAny())).Draw(t, "object") {
			want[k] = v
			if m, ok := v.(map[string]any); ok && m == nil {
				want[k] = map[string]any{}
			}
		}
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := strictjson.Object(data)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// What is accepted means the same to encoding/json, and encoding/json accepts
// everything that is.
func FuzzObject(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,"\ud83d\ude00"]}`, `{"a":1,"a":2}`, `{} x`, `[1]`, nested(40), `{"a":"\\u0000"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := strictjson.Object(data)
		if err != nil {
			if err.Error() == "" || len(err.Error()) > 400 {
				t.Errorf("an unhelpful message: %q", err)
			}
			return
		}
		var want map[string]any
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v, encoding/json reads %v", got, want)
		}
	})
}
