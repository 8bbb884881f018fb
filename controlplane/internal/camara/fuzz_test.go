package camara

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// writes are all operations that take a body.
var writes = []struct{ method, path string }{
	{"POST", "/webrtc-registration/v0.4/sessions"},
	{"PUT", "/webrtc-registration/v0.4/sessions/" + registration},
	{"POST", callsBase},
	{"PUT", callsBase + "/" + session + "/status"},
	{"POST", subsBase},
	{"PUT", subsBase + "/" + subscription},
	{"POST", r22Reg},
	{"PUT", r22Reg + "/" + registration},
	{"POST", r22Calls},
	{"PUT", r22Calls + "/" + session + "/status"},
	{"POST", r22Subs},
	{"POST", "/webrtc-events/v0.3/subscriptions"},
	{"PUT", "/webrtc-events/v0.3/subscriptions/" + subscription},
	{"POST", "/webrtc-events-suscription/v0.2/subscriptions"},
	{"POST", "/webrtc-events-suscription/v0.3/subscriptions"},
}

// harmless fails when something that reaches the gateway could break out of a
// header field.
func harmless(t *testing.T, request any) {
	t.Helper()
	check := func(what, s string) {
		if strings.ContainsFunc(s, unicode.IsControl) {
			t.Errorf("%s holds a control character: %q", what, s)
		}
	}
	switch r := request.(type) {
	case gateway.OriginateRequest:
		check("registration", r.RegistrationID)
		check("originator", r.Originator.String())
		check("receiver", r.Receiver.String())
		check("originator's name", r.OriginatorName)
		check("receiver's name", r.ReceiverName)
		if r.Offer == "" != r.LateOffer {
			t.Errorf("an offer of %d bytes, late: %t", len(r.Offer), r.LateOffer)
		}
	case gateway.SubscribeRequest:
		check("sink", r.Sink.URL)
		check("token", r.Sink.AccessToken)
		for k, v := range r.Sink.Headers {
			check("header name", k)
			check("header value", v)
		}
		if len(r.Types) == 0 {
			t.Error("a subscription to nothing")
		}
	}
}

// No body makes the gateway fail or lets something doubtful through.
func FuzzBodies(f *testing.F) {
	seeds := []string{
		"", "{}", `{"deviceId":"` + device + `"}`, callBody(f, nil), `{"status":"Hold"}`, text(f, subBody(nil)), text(f, r22Body(nil, nil)),
		`{"receiverSessionStatus":{"status":"Resume"}}`, `{"sinkCredential":null}`, `{"config":{"subscriptionDetail":{}}}`,
		text(f, r22Body(nil, map[string]any{"protocolSettings": map[string]any{"headers": map[string]any{"X": "y"}}, "sinkCredential": sinkCredential(nil)})),
	}
	for i := range writes {
		for _, s := range seeds {
			f.Add(i, []byte(s))
		}
	}
	b := setup(f)
	f.Fuzz(func(t *testing.T, i int, body []byte) {
		if i < 0 || i >= len(writes) {
			return
		}
		r := httptest.NewRequest(writes[i].method, writes[i].path, strings.NewReader(string(body)))
		r.Header = http.Header{"Authorization": {"Bearer user"}, "Content-Type": {"application/json"}, "Registrationid": {registration}}
		b.called, b.request = "", nil
		w := httptest.NewRecorder()
		b.api.Handler().ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if ok := w.Code < 300; ok != (b.called != "") {
			t.Fatalf("%d %s, and the gateway was asked %q", w.Code, w.Body, b.called)
		}
		harmless(t, b.request)
		b.checkAnswer(t, ask{method: writes[i].method, path: writes[i].path}, w)
	})
}

// Every address that the newest generation takes can be told to older ones.
func TestNarrowAddress(t *testing.T) {
	forms := rapid.OneOf(
		rapid.StringMatching(`tel:\+[1-9][0-9]{4,14}`),
		rapid.StringMatching(`tel:[0-9*#]{1,15};phone-context=(\+[0-9]{1,15}|[a-z0-9]{1,9}\.[a-z0-9]{1,9})`),
		rapid.StringMatching(`sip:[A-Za-z0-9_.!%+-]{1,30}@[a-z0-9]{1,9}(\.[a-z0-9]{1,9}){1,3}(;user=phone)?`),
		rapid.StringMatching(`sip:[0-9*#]{1,15};phone-context=\+[0-9]{1,15}@[a-z0-9]{1,9}\.[a-z]{1,9};user=phone`),
		rapid.StringMatching(`urn:service:sos(\.[a-z]{1,9}){0,3}`),
		rapid.Just("sip:anonymous@anonymous.invalid"),
	)
	rapid.Check(t, func(t *rapid.T) {
		s := forms.Draw(t, "address")
		a, err := call.ParseAddress(s)
		if err != nil {
			t.Skip(err)
		}
		got := narrowAddress(a, "ims.example.net")
		if !narrowPattern.MatchString(got) {
			t.Fatalf("%s became %s", s, got)
		}
		if narrowPattern.MatchString(s) && got != s {
			t.Fatalf("%s fits and became %s", s, got)
		}
	})
	if got := narrowAddress(call.Address{}, "ims.example.net"); got != "" {
		t.Errorf("no address became %s", got)
	}
}
