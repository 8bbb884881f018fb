package call

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestErrorKeepsItsCause(t *testing.T) {
	err := fmt.Errorf("place the call: %w", Errorf(Unavailable, "the node: %w", io.EOF))
	if CodeOf(err) != Unavailable || !errors.Is(err, io.EOF) {
		t.Errorf("%v has code %s", err, CodeOf(err))
	}
	if CodeOf(nil) != "" || CodeOf(io.EOF) != Internal {
		t.Errorf("no error has code %q, a foreign one %q", CodeOf(nil), CodeOf(io.EOF))
	}
	if e := Errorf(NotFound, "no session %d", 7); e.Message != "no session 7" || e.Err != nil {
		t.Errorf("%+v", e)
	}
}
