package call_test

import (
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// A copy of a session keeps its own count, and counting makes it another one.
func TestTell(t *testing.T) {
	m := call.MediaSession{ID: "m"}
	before := m
	for want := int32(1); want <= 3; want++ {
		if got := m.Tell("a"); got != want {
			t.Errorf("event %d has number %d", want, got)
		}
	}
	counted := m
	if got := m.Tell("b"); got != 1 {
		t.Errorf("the first event to b has number %d", got)
	}
	if before == m || counted == m || before.Told != nil || len(*counted.Told) != 1 {
		t.Errorf("copies changed with the session: %v %v", before.Told, *counted.Told)
	}
}
