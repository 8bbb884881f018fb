package camara

import (
	"reflect"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// Requests as published call-flow examples have them, with their JSON repaired.
func TestExamplePaths(t *testing.T) {
	subscribe := func(types, detail, beside string) string {
		return `{"protocol":"HTTP","sink":"https://relay.example.com/endpoint","types":[` + types + `],"config":{"subscriptionDetail":` + detail + `}` + beside + `}`
	}
	const (
		r31Invitation  = `"` + r31Type + `session-invitation"`
		mainInvitation = `"` + r22Type + `session-invitation"`
		byDevice       = `{"deviceId":"` + device + `"}`
		byRegistration = `{"registrationId":"` + registration + `"}`
		beside         = `,"initialEvent":true,"subscriptionMaxEvents":50,"subscriptionExpireTime":"2026-07-01T13:00:00Z"`
	)
	request := func(generation, detail string, change func(*gateway.SubscribeRequest)) gateway.SubscribeRequest {
		r := gateway.SubscribeRequest{
			Types: []call.EventType{call.SessionInvitation}, Generation: generation,
			Sink: call.Sink{URL: "https://relay.example.com/endpoint"}, Echo: []byte(detail),
		}
		if detail == byRegistration {
			r.RegistrationID = registration
		} else {
			r.DeviceID = device
		}
		if change != nil {
			change(&r)
		}
		return r
	}
	yes := true
	limits := func(r *gateway.SubscribeRequest) {
		r.InitialEvent, r.MaxEvents, r.Expires = &yes, 50, at(time.Hour)
	}
	const alias = "/webrtc-events-suscription/"
	tests := []struct {
		name, path, body string
		status           int
		want             any
	}{
		{"r2.2 by device", alias + "v0.2/subscriptions", subscribe(mainInvitation, byDevice, ""), 201, request(R22, byDevice, nil)},
		{"r2.2 by registration", alias + "v0.2/subscriptions", subscribe(mainInvitation, byRegistration, beside), 201, request(R22, byRegistration, limits)},
		{"r3.1 by device", alias + "v0.3/subscriptions", subscribe(r31Invitation, byDevice, beside), 201, request(R31, byDevice, limits)},
		{"r3.1 by registration", alias + "v0.3rc1/subscriptions", subscribe(r31Invitation, byRegistration, ""), 201, request(R31, byRegistration, nil)},
		{"main by device", alias + "v0.3/subscriptions", subscribe(mainInvitation, byDevice, ""), 201, request(Main2606, byDevice, nil)},
		{"main by registration", alias + "vwip/subscriptions", subscribe(mainInvitation, byRegistration, beside), 201, request(Main2606, byRegistration, limits)},
		{"neither", alias + "v0.3/subscriptions", subscribe(r31Invitation, `{}`, ""), 400, nil},
		{"mixed prefixes", alias + "v0.3/subscriptions", subscribe(r31Invitation+","+mainInvitation, byDevice, ""), 400, nil},
		{"mixed prefixes the other way", alias + "v0.3/subscriptions", subscribe(mainInvitation+","+r31Invitation, byDevice, ""), 400, nil},
		{"member beside config on a right path", "/webrtc-events-subscriptions/v0.3/subscriptions", subscribe(r31Invitation, byDevice, beside), 400, nil},
		{"registration on a right path", "/webrtc-events-subscriptions/v0.3/subscriptions", subscribe(r31Invitation, byRegistration, ""), 400, nil},
		{"register, v0.3", "/webrtc-registration/v0.3/subscriptions", `{"deviceId":"uuid"}`, 200, gateway.RegisterRequest{DeviceID: "uuid", Below: call.DefaultOutside, Replace: true}},
		{"register, v0.4", "/webrtc-registration/v0.4/subscriptions", `{"deviceId":"` + device + `"}`, 201, gateway.RegisterRequest{DeviceID: device}},
		{"register, v0.4rc1, without UUID", "/webrtc-registration/v0.4rc1/subscriptions", `{"deviceId":"uuid"}`, 400, nil},
		{"other version", alias + "v0.9/subscriptions", subscribe(r31Invitation, byDevice, ""), 404, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			w := b.send(t, ask{method: "POST", path: tt.path, body: tt.body})
			if w.Code != tt.status {
				t.Fatalf("got %d %s", w.Code, w.Body)
			}
			if tt.want == nil && b.called != "" || tt.want != nil && !reflect.DeepEqual(b.request, tt.want) {
				t.Errorf("the gateway was asked %s(%+v)", b.called, b.request)
			}
		})
	}
}

func TestExamplePathsScopes(t *testing.T) {
	const path = "/webrtc-events-suscription/v0.3/subscriptions"
	tests := []struct {
		ask
		status int
	}{
		{ask{method: "GET", path: path, token: "limited webrtc-events:read"}, 200},
		{ask{method: "GET", path: path + "/" + subscription, token: "limited webrtc-events-subscriptions:read"}, 200},
		{ask{method: "DELETE", path: path + "/" + subscription, token: "limited webrtc-events:delete"}, 204},
		{ask{method: "DELETE", path: path + "/" + subscription, token: "limited webrtc-events:read"}, 403},
		{ask{method: "DELETE", path: path, token: "user"}, 400},
		{ask{method: "PATCH", path: path, token: "user"}, 405},
		{ask{method: "GET", path: "/webrtc-registration/v0.3/subscriptions", token: "user"}, 404},
	}
	b := setup(t)
	for _, tt := range tests {
		if w := b.send(t, tt.ask); w.Code != tt.status {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, w.Code, w.Body)
		}
	}
	b = setup(t, func(c *Config) { c.Examples = false })
	if w := b.send(t, ask{method: "GET", path: path}); w.Code != 404 {
		t.Errorf("turned off: %d %s", w.Code, w.Body)
	}
	b = setup(t, func(c *Config) { c.Generations = []string{R31} })
	body := `{"protocol":"HTTP","sink":"https://a.example.com","types":["` + r22Type + `session-status"],"config":{"subscriptionDetail":{"deviceId":"` + device + `"}}}`
	if w := b.send(t, ask{method: "POST", path: path, body: body}); w.Code != 400 {
		t.Errorf("types of a generation that is off: %d %s", w.Code, w.Body)
	}
}
