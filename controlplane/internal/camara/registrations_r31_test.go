package camara

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

func at(d time.Duration) *time.Time {
	t := now.Add(d)
	return &t
}

func TestRegistrations(t *testing.T) {
	const base = "/webrtc-registration/v0.4/sessions"
	tests := []struct {
		name string
		ask
		status  int
		called  string
		id      string
		request any
	}{
		{
			name:   "create",
			ask:    ask{method: "POST", path: base, body: `{"deviceId":"` + device + `"}`},
			status: 201, called: "Register", request: gateway.RegisterRequest{DeviceID: device},
		},
		{
			name:   "create with upper-case device and expiry in another zone",
			ask:    ask{method: "POST", path: base, body: `{"deviceId":"3FA85F64-5717-4562-B3FC-2C963F66AFA6","registrationExpireTime":"2026-07-01T15:00:00.5+02:00"}`},
			status: 201, called: "Register", request: gateway.RegisterRequest{DeviceID: device, Expires: at(time.Hour + 500*time.Millisecond)},
		},
		{
			name:   "create for a number by the application",
			ask:    ask{method: "POST", path: base, token: "app", body: `{"deviceId":"` + device + `","phoneNumber":"+15550100"}`},
			status: 201, called: "Register", request: gateway.RegisterRequest{DeviceID: device, Number: "+15550100"},
		},
		{
			name:   "get",
			ask:    ask{method: "GET", path: base + "/11111111-2222-4333-8444-555555555555"},
			status: 200, called: "Registration", id: registration,
		},
		{
			name:   "update without body",
			ask:    ask{method: "PUT", path: base + "/" + registration},
			status: 204, called: "Refresh", id: registration, request: gateway.RefreshRequest{},
		},
		{
			name:   "update with empty object",
			ask:    ask{method: "PUT", path: base + "/" + registration, body: `{}`},
			status: 200, called: "Refresh", id: registration, request: gateway.RefreshRequest{},
		},
		{
			name:   "update with expiry",
			ask:    ask{method: "PUT", path: base + "/" + registration, body: `{"registrationExpireTime":"2026-07-01T14:00:00Z"}`},
			status: 200, called: "Refresh", id: registration, request: gateway.RefreshRequest{Expires: at(2 * time.Hour)},
		},
		{
			name:   "delete",
			ask:    ask{method: "DELETE", path: base + "/" + registration},
			status: 204, called: "Deregister", id: registration,
		},
		{
			name:   "list nothing",
			ask:    ask{method: "GET", path: base + "?deviceId=3FA85F64-5717-4562-B3FC-2C963F66AFA6"},
			status: 200, called: "Registrations", id: device,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			w := b.send(t, tt.ask)
			if w.Code != tt.status {
				t.Fatalf("got %d %s, want %d", w.Code, w.Body, tt.status)
			}
			if b.called != tt.called || b.id != tt.id || !reflect.DeepEqual(b.request, tt.request) {
				t.Errorf("the gateway was asked %s(%q, %+v)", b.called, b.id, b.request)
			}
			if w.Body.Len() > 0 {
				golden(t, "registrations-r31-"+tt.name, w.Body.Bytes())
			}
		})
	}
}

func TestRegistrationsListIsBounded(t *testing.T) {
	b := setup(t)
	for range 12 {
		b.registrations = append(b.registrations, b.registration)
	}
	w := b.send(t, ask{method: "GET", path: "/webrtc-registration/v0.4/sessions?deviceId=" + device})
	if w.Code != http.StatusOK {
		t.Fatal(w.Code, w.Body)
	}
	golden(t, "registrations-r31-list", w.Body.Bytes())
}

func TestRegistrationRefusals(t *testing.T) {
	const base = "/webrtc-registration/v0.4/sessions"
	good := `{"deviceId":"` + device + `"}`
	tests := []struct {
		name string
		ask
		err    error
		status int
		code   string
	}{
		{"no body", ask{method: "POST", path: base}, nil, 400, "INVALID_ARGUMENT"},
		{"empty object", ask{method: "POST", path: base, body: `{}`}, nil, 400, "INVALID_ARGUMENT"},
		{"device not a UUID", ask{method: "POST", path: base, body: `{"deviceId":"uuid"}`}, nil, 400, "INVALID_ARGUMENT"},
		{"device not a string", ask{method: "POST", path: base, body: `{"deviceId":7}`}, nil, 400, "INVALID_ARGUMENT"},
		{"device null", ask{method: "POST", path: base, body: `{"deviceId":null}`}, nil, 400, "INVALID_ARGUMENT"},
		{"device in braces", ask{method: "POST", path: base, body: `{"deviceId":"{` + device + `}"}`}, nil, 400, "INVALID_ARGUMENT"},
		{"number without plus", ask{method: "POST", path: base, token: "app", body: `{"deviceId":"` + device + `","phoneNumber":"15550100"}`}, nil, 400, "INVALID_ARGUMENT"},
		{"number with line break", ask{method: "POST", path: base, token: "app", body: `{"deviceId":"` + device + `","phoneNumber":"+15550100\n"}`}, nil, 400, "INVALID_ARGUMENT"},
		{"expiry without zone", ask{method: "POST", path: base, body: `{"deviceId":"` + device + `","registrationExpireTime":"2026-07-01T14:00:00"}`}, nil, 400, "INVALID_ARGUMENT"},
		{"expiry too long", ask{method: "POST", path: base, body: `{"deviceId":"` + device + `","registrationExpireTime":"2026-07-01T14:00:00.00000000000000000000000000000000000000000000000Z"}`}, nil, 400, "INVALID_ARGUMENT"},
		{"unknown property", ask{method: "POST", path: base, body: `{"deviceId":"` + device + `","colour":"red"}`}, nil, 400, "INVALID_ARGUMENT"},
		{"update with device", ask{method: "PUT", path: base + "/" + registration, body: good}, nil, 400, "INVALID_ARGUMENT"},
		{"list without device", ask{method: "GET", path: base}, nil, 400, "INVALID_ARGUMENT"},
		{"list with empty device", ask{method: "GET", path: base + "?deviceId="}, nil, 400, "INVALID_ARGUMENT"},
		{"list with bad device", ask{method: "GET", path: base + "?deviceId=42"}, nil, 400, "INVALID_ARGUMENT"},
		{"list with two devices", ask{method: "GET", path: base + "?deviceId=" + device + "&deviceId=" + device}, nil, 400, "INVALID_ARGUMENT"},
		{"list with bad query", ask{method: "GET", path: base + "?deviceId=%zz"}, nil, 400, "INVALID_ARGUMENT"},
		{"number missing", ask{method: "POST", path: base, token: "app", body: good}, call.Errorf(call.MissingIdentifier, "phoneNumber is missing"), 422, "MISSING_IDENTIFIER"},
		{"number unnecessary", ask{method: "POST", path: base, body: good}, call.Errorf(call.UnnecessaryIdentifier, "leave phoneNumber out"), 422, "UNNECESSARY_IDENTIFIER"},
		{"exists", ask{method: "POST", path: base, body: good}, call.Errorf(call.AlreadyExists, "is registered"), 409, "ALREADY_EXISTS"},
		{"out of range", ask{method: "POST", path: base, body: good}, call.Errorf(call.OutOfRange, "too soon"), 400, "OUT_OF_RANGE"},
		{"emergency address", ask{method: "POST", path: base, body: good}, call.Errorf("EMERGENCY_ADDRESS_MISSING", "no address"), 400, "EMERGENCY_ADDRESS_MISSING"},
		{"token context", ask{method: "POST", path: base, body: good}, call.Errorf(call.InvalidTokenContext, "no"), 403, "INVALID_TOKEN_CONTEXT"},
		{"per user", ask{method: "POST", path: base, body: good}, call.Errorf(call.MaxRegistrationsPerUser, "no"), 403, "MAX_REGISTRATION_PER_USER"},
		{"per number", ask{method: "POST", path: base, body: good}, call.Errorf(call.MaxRegistrationsPerMSISDN, "no"), 403, "MAX_REGISTRATION_PER_MSISDN"},
		{"devices", ask{method: "POST", path: base, body: good}, call.Errorf(call.MaxDevicesPerUser, "no"), 403, "MAX_DEVICES_PER_USER"},
		{"network down", ask{method: "POST", path: base, body: good}, call.Errorf(call.Unavailable, "no"), 503, "UNAVAILABLE"},
		{"network slow", ask{method: "POST", path: base, body: good}, call.Errorf(call.Timeout, "no"), 504, "TIMEOUT"},
		{"get unknown", ask{method: "GET", path: base + "/" + registration}, call.Errorf(call.NotFound, "no"), 404, "NOT_FOUND"},
		{"update unknown", ask{method: "PUT", path: base + "/" + registration}, call.Errorf(call.NotFound, "no"), 404, "NOT_FOUND"},
		{"delete unknown", ask{method: "DELETE", path: base + "/" + registration}, call.Errorf(call.NotFound, "no"), 404, "NOT_FOUND"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			b.err = tt.err
			w := b.send(t, tt.ask)
			if w.Code != tt.status || code(w) != tt.code {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, tt.status, tt.code)
			}
			if tt.err == nil && b.called != "" {
				t.Errorf("the gateway was asked %s", b.called)
			}
		})
	}
}
