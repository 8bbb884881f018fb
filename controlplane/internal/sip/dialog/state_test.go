package dialog

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// fill gives every field a value of its own, so that one that is not stored is
// noticed, whoever adds it.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch x := f.Addr().Interface().(type) {
		case *string:
			*x = "a " + name
		case *bool:
			*x = true
		case *int:
			*x = StateVersion
		case *uint32:
			*x = uint32(100 + i)
		case *[]string:
			*x = []string{"sip:first;lr", "sip:second;lr"}
		case *time.Time:
			*x = time.Unix(1e9, 0).UTC()
		case *json.RawMessage:
			*x = json.RawMessage(`[{"realm":"r"}]`)
		case **Session:
			*x = &Session{}
			fill(t, reflect.ValueOf(*x).Elem())
		default:
			t.Fatalf("%s is of a type that this test does not know", name)
		}
	}
}

// Everything that a dialog is goes on in another process.
func TestStateIsStored(t *testing.T) {
	var s State
	fill(t, reflect.ValueOf(&s).Elem())
	got, err := ParseState(s.Marshal())
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("stored  %+v\nread as %+v, %v", s, got, err)
	}
	m, _ := Restore(testConfig(), got)
	s.LocalSeq += skip
	if d := m.Dialog(); !reflect.DeepEqual(d, s) {
		t.Errorf("goes on as %+v\nwant       %+v", d, s)
	}
	for _, bad := range []string{"", "{}", `{"v":99,"call_id":"a","local_tag":"b","target":"c"}`, `{"v":1,"call_id":"a"}`} {
		if got, err := ParseState([]byte(bad)); err == nil {
			t.Errorf("%s is read as %+v", bad, got)
		}
	}
}
