package torture

import (
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/validate"
)

// Every message is judged before the transaction layer as Expected says, as a
// datagram and as part of a stream.
func TestValidation(t *testing.T) {
	messages, err := Messages()
	if err != nil {
		t.Fatal(err)
	}
	p := validate.New()
	seen := map[string]bool{}
	for _, m := range messages {
		seen[m.Name] = true
		want, ok := Expected[m.Name]
		if !ok {
			t.Errorf("%s: nothing is expected of it", m.Name)
			continue
		}
		if _, problem := p.Datagram(m.Raw); reason(problem) != want.Reason {
			t.Errorf("%s: %q (%v), want %q", m.Name, reason(problem), problem, want.Reason)
		} else if problem != nil && problem.Code != want.Answer {
			t.Errorf("%s: refused with %d, want %d", m.Name, problem.Code, want.Answer)
		}
		n, problem := validate.Frame(m.Raw)
		if reason(problem) != want.Frame {
			t.Errorf("%s: framed as %q, want %q", m.Name, reason(problem), want.Frame)
		}
		if problem != nil || n == 0 {
			continue
		}
		if _, problem := p.Message(m.Raw[:n]); reason(problem) != want.Reason {
			t.Errorf("%s on a stream: %q, want %q", m.Name, reason(problem), want.Reason)
		}
	}
	for name := range Expected {
		if !seen[name] {
			t.Errorf("there is no message %s", name)
		}
	}
}

func reason(p *validate.Problem) string {
	if p == nil {
		return ""
	}
	return p.Reason
}
