package camara

import (
	"strings"
	"time"
	"unicode"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara/apidoc"
)

// object is a JSON object whose shape has been checked, so that a getter answers
// the zero value only for what is absent.
type object map[string]any

func (o object) has(key string) bool {
	_, ok := o[key]
	return ok
}

func (o object) text(key string) string {
	s, _ := o[key].(string)
	return s
}

func (o object) object(key string) object {
	m, _ := o[key].(map[string]any)
	return m
}

func (o object) number(key string) float64 {
	f, _ := o[key].(float64)
	return f
}

func (o object) texts(key string) []string {
	list, _ := o[key].([]any)
	texts := make([]string, 0, len(list))
	for _, v := range list {
		if s, ok := v.(string); ok {
			texts = append(texts, s)
		}
	}
	return texts
}

// time is nil when absent.
func (o object) time(key string) (*time.Time, error) {
	if !o.has(key) {
		return nil, nil
	}
	t, err := apidoc.ParseTime(o.text(key))
	if err != nil {
		return nil, refuse(call.InvalidArgument, "%s: must be an RFC 3339 date and time with its time zone.", key)
	}
	t = t.UTC()
	return &t, nil
}

// address is the zero Address when absent.
func (o object) address(key string) (call.Address, error) {
	if !o.has(key) {
		return call.Address{}, nil
	}
	a, err := call.ParseAddress(o.text(key))
	if err != nil {
		f := failureOf(err)
		f.info.Message = key + ": " + f.info.Message
		return call.Address{}, f
	}
	return a, nil
}

// line is text that will stand in a header field of SIP or HTTP: a control
// character could break out of it.
func (o object) line(key string) (string, error) {
	s := o.text(key)
	if strings.ContainsFunc(s, unbroken) {
		return "", refuse(call.InvalidArgument, "%s: must be one line without control characters.", key)
	}
	return s, nil
}

func unbroken(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }

// sdp of {"sdp": …} under key; empty when absent. More than its first line is the
// gateway's to judge.
func (o object) sdp(key string) (string, error) {
	s := o.object(key).text("sdp")
	if !o.has(key) {
		return "", nil
	}
	if !strings.HasPrefix(s, "v=0\r\n") && !strings.HasPrefix(s, "v=0\n") {
		return "", refuse(call.InvalidArgument, "%s.sdp: is not a session description; it must begin with the line v=0.", key)
	}
	return s, nil
}

// foldUUID puts a UUID in lower case, as which it is kept and compared. Anything
// else stays what it is.
func foldUUID(s string) string {
	if apidoc.IsUUID(s) {
		return strings.ToLower(s)
	}
	return s
}

// instant is how answers and events write times: UTC, milliseconds.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// maybeInstant is empty for no time.
func maybeInstant(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return instant(*t)
}
