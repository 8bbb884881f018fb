package apidoc_test

import (
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara/apidoc"
)

func all(t testing.TB) []*apidoc.Document {
	t.Helper()
	var documents []*apidoc.Document
	for _, name := range [][2]string{
		{"webrtc-registration", "r3.1"}, {"webrtc-call-handling", "r3.1"}, {"webrtc-events-subscriptions", "r3.1"},
		{"webrtc-registration", "r2.2"}, {"webrtc-call-handling", "r2.2"}, {"webrtc-events", "r2.2"},
		{"webrtc-events", "main-2026-06"},
	} {
		d, err := apidoc.Load(name[0], name[1])
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, d)
	}
	return documents
}

func operation(t testing.TB, api, generation, id string) *apidoc.Operation {
	t.Helper()
	d, err := apidoc.Load(api, generation)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range d.Operations() {
		if o.ID == id {
			return o
		}
	}
	t.Fatalf("%s %s has no operation %s", api, generation, id)
	return nil
}

func TestLoadUnknown(t *testing.T) {
	if _, err := apidoc.Load("webrtc-registration", "r9.9"); err == nil || !strings.Contains(err.Error(), "r9.9") {
		t.Errorf("got %v", err)
	}
}

func TestOperationsAreComplete(t *testing.T) {
	for _, d := range all(t) {
		for _, o := range d.Operations() {
			where := d.API + " " + d.Generation + " " + o.ID
			if len(o.Scopes) == 0 || o.Summary == "" {
				t.Errorf("%s: no scopes or no summary", where)
			}
			if wants := o.Method == "POST" || o.Method == "PUT"; o.BodyAllowed != wants {
				t.Errorf("%s: body allowed is %t", where, o.BodyAllowed)
			}
			if v := o.CheckParameter("x-correlator", "a b"); len(v) != 1 || v[0].Rule != "pattern" {
				t.Errorf("%s: x-correlator is not checked: %v", where, v)
			}
			for _, status := range []int{401, 403, 400, 500, 503} {
				if len(o.CheckResponse(status, map[string]any{"status": 1.0})) == 0 {
					t.Errorf("%s: a refusal %d without code passes", where, status)
				}
			}
			if len(o.CheckResponse(200, "text")) == 0 && len(o.CheckResponse(201, "text")) == 0 {
				t.Errorf("%s: any success passes", where)
			}
		}
	}
}

func TestViolations(t *testing.T) {
	create := operation(t, "webrtc-call-handling", "r3.1", "createSession")
	good := func() map[string]any {
		return map[string]any{"originatorAddress": "tel:+15550100", "receiverAddress": "tel:+15550199", "offer": map[string]any{"sdp": "v=0\r\n"}}
	}
	if v := create.CheckBody(good()); len(v) != 0 {
		t.Fatal(v)
	}
	tests := []struct {
		name   string
		change func(map[string]any)
		want   string
	}{
		{"missing", func(m map[string]any) { delete(m, "offer") }, "offer is required"},
		{"unknown", func(m map[string]any) { m["colour"] = 1.0 }, `The body has the property "colour" which is not part of this API`},
		{"unknown within", func(m map[string]any) { m["offer"] = map[string]any{"sdp": "v", "x": 1.0} }, `offer has the property "x" which is not part of this API`},
		{"type", func(m map[string]any) { m["originatorName"] = 1.0 }, "originatorName must be a string"},
		{"null", func(m map[string]any) { m["originatorName"] = nil }, "originatorName must not be null"},
		{"enum", func(m map[string]any) { m["callType"] = "x" }, `callType is not one of the allowed values ["REGULAR","EMERGENCY"]`},
		{"length", func(m map[string]any) { m["originatorName"] = strings.Repeat("a", 257) }, "originatorName must have at most 256 characters"},
		{"empty", func(m map[string]any) { m["offer"] = map[string]any{"sdp": ""} }, "offer.sdp must not be empty"},
		{"address", func(m map[string]any) { m["receiverAddress"] = "secret" }, "receiverAddress must be an address of a documented form, for example tel:+15550100 or sip:user@example.com"},
		{"one of", func(m map[string]any) { m["locationDetails"] = map[string]any{"coordinates": map[string]any{}} }, "locationDetails.coordinates does not have one of the documented shapes"},
		{"range", func(m map[string]any) {
			m["locationDetails"] = map[string]any{"confidence": map[string]any{"value": 101.0}}
		}, "locationDetails.confidence.value must be at most 100"},
		{"time", func(m map[string]any) { m["locationDetails"] = map[string]any{"timestamp": "now"} }, "locationDetails.timestamp must be an RFC 3339 date and time with its time zone, for example 2030-01-01T12:00:00Z"},
	}
	for _, tt := range tests {
		body := good()
		tt.change(body)
		v := create.CheckBody(body)
		if len(v) != 1 || v[0].String() != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, v, tt.want)
		}
	}
}

func TestParseTime(t *testing.T) {
	want := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for _, good := range []string{"2026-07-01T12:00:00Z", "2026-07-01t12:00:00z", "2026-07-01T14:00:00+02:00", "2026-07-01T12:00:00.000000Z"} {
		if got, err := apidoc.ParseTime(good); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", good, got, err)
		}
	}
	for _, bad := range []string{"", "2026-07-01", "2026-07-01T12:00:00", "2026-07-01 12:00:00Z", "2026-07-01T12:00Z", "2026-07-01T1:00:00Z", "2026-07-01T12:00:00,5Z", "2026-02-30T12:00:00Z", "2026-07-01T24:00:00Z", "2026-07-01T12:00:00+0200", "1782907200"} {
		if got, err := apidoc.ParseTime(bad); err == nil {
			t.Errorf("%s was taken as %v", bad, got)
		}
	}
}

func TestIsUUID(t *testing.T) {
	for s, want := range map[string]bool{
		"3fa85f64-5717-4562-b3fc-2c963f66afa6":   true,
		"3FA85F64-5717-4562-B3FC-2C963F66AFA6":   true,
		"00000000-0000-0000-0000-000000000000":   true,
		"3fa85f6457174562b3fc2c963f66afa6":       false,
		"{3fa85f64-5717-4562-b3fc-2c963f66afa6}": false,
		"3fa85f64-5717-4562-b3fc-2c963f66afag":   false,
		"3fa85f64-5717-4562-b3fc02c963f66afa6":   false,
		"3fa85f64-5717-4562-b3fc-2c963f66afa6\n": false,
		"":                                       false,
	} {
		if got := apidoc.IsUUID(s); got != want {
			t.Errorf("%q: %t", s, got)
		}
	}
}

// No value, whatever it is, makes the check panic or ends up in a message.
func FuzzCheckBody(f *testing.F) {
	op := operation(f, "webrtc-events-subscriptions", "r3.1", "createNotificationChannelSubscription")
	f.Add("https://a.example.com", "MARKER", "2026-07-01T12:00:00Z", 1.0)
	f.Add("\x00", "MARKER\r\n", "", -1.5)
	f.Fuzz(func(t *testing.T, sink, token, expires string, events float64) {
		secret := "MARKER" + token
		body := map[string]any{
			"protocol": secret, "sink": sink, "types": []any{secret, events, nil},
			"sinkCredential": map[string]any{"credentialType": "ACCESSTOKEN", "accessToken": " " + secret, "accessTokenExpiresUtc": expires, "accessTokenType": secret},
			"config":         map[string]any{"subscriptionDetail": []any{}, "subscriptionExpireTime": secret, "subscriptionMaxEvents": events},
		}
		violations := op.CheckBody(body)
		if len(violations) == 0 {
			t.Fatal("a bad body passes")
		}
		for _, v := range violations {
			if strings.Contains(v.String(), "MARKER") {
				t.Errorf("a message holds a value: %s", v)
			}
		}
	})
}
