package camara

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

const (
	r22Reg   = "/webrtc-registration/v0.3/sessions"
	r22Calls = "/webrtc-call-handling/v0.3/sessions"
	r22Subs  = "/webrtc-events/v0.2/subscriptions"
	r22Type  = "org.camaraproject.webrtc-events.v0."
)

func TestR22Registrations(t *testing.T) {
	tests := []struct {
		name string
		ask
		status  int
		code    string
		called  string
		request any
	}{
		{"create", ask{method: "POST", path: r22Reg, body: `{"deviceId":"` + device + `"}`}, 200, "", "Register",
			gateway.RegisterRequest{DeviceID: device, Below: call.DefaultOutside, Replace: true}},
		{"device by the published pattern", ask{method: "POST", path: r22Reg, body: `{"deviceId":"uuid","registrationExpireTime":"2023-01-01T00:00:00Z"}`}, 200, "", "Register",
			gateway.RegisterRequest{DeviceID: "uuid", Expires: func() *time.Time { t := time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC); return &t }(), Below: call.DefaultOutside, Replace: true}},
		{"unknown properties", ask{method: "POST", path: r22Reg, body: `{"deviceId":"` + device + `","phoneNumber":"x","DEVICEID":"other"}`}, 200, "", "Register",
			gateway.RegisterRequest{DeviceID: device, Below: call.DefaultOutside, Replace: true}},
		{"device of no form", ask{method: "POST", path: r22Reg, body: `{"deviceId":"phone-1"}`}, 400, "INVALID_ARGUMENT", "", nil},
		{"device too long", ask{method: "POST", path: r22Reg, body: `{"deviceId":"uuid` + strings.Repeat("x", 33) + `"}`}, 400, "INVALID_ARGUMENT", "", nil},
		{"empty", ask{method: "POST", path: r22Reg, body: `{}`}, 400, "INVALID_ARGUMENT", "", nil},
		{"no body", ask{method: "POST", path: r22Reg}, 400, "INVALID_ARGUMENT", "", nil},
		{"expiry without zone", ask{method: "POST", path: r22Reg, body: `{"deviceId":"` + device + `","registrationExpireTime":"2026-07-01T14:00:00"}`}, 400, "INVALID_ARGUMENT", "", nil},
		{"no subscriber", ask{method: "POST", path: r22Reg, token: "app", body: `{"deviceId":"` + device + `"}`}, 403, "INVALID_TOKEN_CONTEXT", "", nil},
		{"update", ask{method: "PUT", path: r22Reg + "/" + registration, body: `{}`}, 200, "", "Refresh", gateway.RefreshRequest{Below: call.DefaultOutside}},
		{"update without body", ask{method: "PUT", path: r22Reg + "/" + registration}, 204, "", "Refresh", gateway.RefreshRequest{Below: call.DefaultOutside}},
		{"delete", ask{method: "DELETE", path: r22Reg + "/" + registration}, 204, "", "Deregister", nil},
		{"list", ask{method: "GET", path: r22Reg + "?deviceId=" + device}, 405, "METHOD_NOT_ALLOWED", "", nil},
		{"get", ask{method: "GET", path: r22Reg + "/" + registration}, 405, "METHOD_NOT_ALLOWED", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			w := b.send(t, tt.ask)
			if w.Code != tt.status || code(w) != tt.code || b.called != tt.called || !reflect.DeepEqual(b.request, tt.request) {
				t.Fatalf("got %d %s from %s(%+v)", w.Code, w.Body, b.called, b.request)
			}
			if w.Code == http.StatusOK {
				golden(t, "registrations-r22-"+tt.name, w.Body.Bytes())
			}
		})
	}
}

func TestR22CreateSession(t *testing.T) {
	plain := func(change func(*gateway.OriginateRequest)) gateway.OriginateRequest {
		r := gateway.OriginateRequest{
			RegistrationID: registration, Originator: address(t, "tel:+15550100"), Receiver: address(t, "tel:+15550199"),
			CallType: call.Regular, Offer: offerSDP,
		}
		change(&r)
		return r
	}
	late := func(r *gateway.OriginateRequest) { r.Offer, r.LateOffer = "", true }
	tests := []struct {
		name   string
		body   map[string]any
		status int
		want   any
	}{
		{"plain", nil, 201, plain(func(*gateway.OriginateRequest) {})},
		{"with what the gateway fills in", map[string]any{"status": "Initial", "mediaSessionId": "x", "serverCorrelator": "x", "callObjectRef": "x", "sequenceNumber": 1, "offerRequired": true, "callType": "EMERGENCY", "locationDetails": 7}, 201, plain(func(*gateway.OriginateRequest) {})},
		{"correlator", map[string]any{"clientCorrelator": "a b\n"}, 201, plain(func(r *gateway.OriginateRequest) { r.ClientCorrelator = "a b\n" })},
		{"without offer", map[string]any{"offer": nil}, 201, plain(late)},
		{"with empty offer", map[string]any{"offer": map[string]any{"sdp": ""}}, 201, plain(late)},
		{"number beginning with 0", map[string]any{"receiverAddress": "tel:+05550199"}, 201, plain(func(r *gateway.OriginateRequest) { r.Receiver = address(t, "sip:+05550199@ims.example.net") })},
		{"anonymous", map[string]any{"originatorAddress": "sip:anonymous@anonymous.invalid"}, 201, plain(func(r *gateway.OriginateRequest) { r.Originator = call.AnonymousAddress() })},
		{"nothing", map[string]any{"originatorAddress": nil, "receiverAddress": nil, "offer": nil}, 400, nil},
		{"no receiver", map[string]any{"receiverAddress": nil}, 400, nil},
		{"answer", map[string]any{"answer": map[string]any{"sdp": answerSDP}}, 400, nil},
		{"another status", map[string]any{"status": "Ringing"}, 400, nil},
		{"local number", map[string]any{"receiverAddress": "tel:100;phone-context=+1555"}, 400, nil},
		{"user=phone", map[string]any{"receiverAddress": "sip:100@example.com;user=phone"}, 400, nil},
		{"emergency", map[string]any{"receiverAddress": "urn:service:sos"}, 400, nil},
		{"anonymous receiver", map[string]any{"receiverAddress": "sip:anonymous@anonymous.invalid"}, 400, nil},
		{"name with line break", map[string]any{"receiverName": "a\nb"}, 400, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			w := b.send(t, ask{method: "POST", path: r22Calls, body: callBody(t, tt.body), header: fromRegistration()})
			if w.Code != tt.status || !reflect.DeepEqual(b.request, tt.want) {
				t.Errorf("got %d %s from %s(%+v)", w.Code, w.Body, b.called, b.request)
			}
		})
	}
}

func TestR22SessionAnswers(t *testing.T) {
	path := r22Calls + "/" + session
	sdp := func(status string) string {
		return `{` + status + `"answer":{"sdp":` + text(t, answerSDP) + `}}`
	}
	full := func(m *call.MediaSession) {
		m.Status, m.Answer, m.Reason = call.Ringing, answerSDP, "SIP 180 Ringing"
		m.ClientCorrelator, m.ServerCorrelator = "a b\n", "s-1"
		m.Receiver, m.Originator = address(t, "tel:*100#;phone-context=example.com"), address(t, "sip:+05550100@ims.example.net")
		m.Location = &call.Location{Method: "GPS"}
	}
	tests := []struct {
		name string
		ask
		change  func(*call.MediaSession)
		called  string
		request any
	}{
		{"get", ask{method: "GET", path: path}, full, "Session", nil},
		{"get an emergency call", ask{method: "GET", path: path}, func(m *call.MediaSession) {
			m.Receiver = address(t, "urn:service:sos.fire")
		}, "Session", nil},
		{"get a call that waits for its offer", ask{method: "GET", path: path}, func(m *call.MediaSession) { m.Offer = "" }, "Session", nil},
		{"put status", ask{method: "PUT", path: path + "/status", body: `{"status":"Hold","originatorAddress":7,"callType":"x"}`}, full, "UpdateSession", gateway.StatusRequest{Status: call.Hold}},
		{"put SDP alone", ask{method: "PUT", path: path + "/status", body: sdp("")}, full, "UpdateSession", gateway.StatusRequest{Answer: answerSDP}},
		{"put wrapped", ask{method: "PUT", path: path + "/status", body: `{"receiverSessionStatus":` + sdp(`"status":"InProgress",`) + `}`}, full, "UpdateSession", gateway.StatusRequest{Status: call.InProgress, Answer: answerSDP}},
		{"put wrapped, other spelling", ask{method: "PUT", path: path + "/status", body: `{"ReceiverSessionStatus":{"status":"Resume"}}`}, full, "UpdateSession", gateway.StatusRequest{Status: call.Resume}},
		{"put nothing", ask{method: "PUT", path: path + "/status", body: `{}`}, full, "Session", nil},
		{"put without body", ask{method: "PUT", path: path + "/status"}, full, "Session", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			tt.change(&b.session)
			w := b.send(t, tt.ask)
			if w.Code != http.StatusOK || b.called != tt.called || b.id != session || !reflect.DeepEqual(b.request, tt.request) {
				t.Fatalf("got %d %s from %s(%+v)", w.Code, w.Body, b.called, b.request)
			}
			golden(t, "calls-r22-"+tt.name, w.Body.Bytes())
		})
	}
	t.Run("put what cannot be asked for", func(t *testing.T) {
		b := setup(t)
		if w := b.send(t, ask{method: "PUT", path: path + "/status", body: `{"status":"Initial"}`}); w.Code != 400 || b.called != "" {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
	t.Run("delete", func(t *testing.T) {
		b := setup(t)
		if w := b.send(t, ask{method: "DELETE", path: path}); w.Code != 204 || b.called != "EndSession" {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
}

func r22Body(detail, change map[string]any) map[string]any {
	return with(map[string]any{
		"protocol": "HTTP",
		"sink":     "https://app.example.com/events",
		"types":    []any{r22Type + "session-status"},
		"config":   map[string]any{"subscriptionDetail": with(map[string]any{"registrationId": registration}, detail)},
	}, change)
}

func TestR22Subscribe(t *testing.T) {
	request := func(change func(*gateway.SubscribeRequest)) gateway.SubscribeRequest {
		r := gateway.SubscribeRequest{
			RegistrationID: registration, Types: []call.EventType{call.SessionStatus}, Generation: R22,
			Sink: call.Sink{URL: "https://app.example.com/events"}, Echo: []byte(`{"registrationId":"` + registration + `"}`),
		}
		change(&r)
		return r
	}
	tests := []struct {
		name string
		body map[string]any
		want gateway.SubscribeRequest
	}{
		{"plain", r22Body(nil, nil), request(func(*gateway.SubscribeRequest) {})},
		{"with device", r22Body(map[string]any{"deviceId": strings.ToUpper(device), "other": 1}, nil), request(func(r *gateway.SubscribeRequest) {
			r.DeviceID = device
			r.Echo = []byte(text(t, map[string]any{"registrationId": registration, "deviceId": strings.ToUpper(device)}))
		})},
		{"with session", r22Body(map[string]any{"sessionId": session}, nil), request(func(r *gateway.SubscribeRequest) {
			r.SessionID, r.Echo = session, []byte(text(t, map[string]any{"registrationId": registration, "sessionId": session}))
		})},
		{"with mediaSessionId", r22Body(map[string]any{"mediaSessionId": strings.ToUpper(session)}, nil), request(func(r *gateway.SubscribeRequest) {
			r.SessionID, r.Echo = session, []byte(text(t, map[string]any{"registrationId": registration, "mediaSessionId": strings.ToUpper(session)}))
		})},
		{"session of no interest", r22Body(map[string]any{"sessionId": session}, map[string]any{"types": []any{r22Type + "registration-ends"}}), request(func(r *gateway.SubscribeRequest) {
			r.Types, r.Echo = []call.EventType{call.RegistrationEnds}, []byte(text(t, map[string]any{"registrationId": registration, "sessionId": session}))
		})},
		{"other spelling of the token's end", r22Body(nil, map[string]any{"sinkCredential": sinkCredential(map[string]any{"accessTokenExpiresUtc": nil, "accessTokenExpireUtc": "2026-07-01T13:00:00Z", "more": 1})}), request(func(r *gateway.SubscribeRequest) {
			r.Sink.AccessToken, r.Sink.AccessTokenExpires = "secret-token", now.Add(time.Hour)
		})},
		{"both spellings", r22Body(nil, map[string]any{"sinkCredential": sinkCredential(map[string]any{"accessTokenExpireUtc": "nonsense"})}), request(func(r *gateway.SubscribeRequest) {
			r.Sink.AccessToken, r.Sink.AccessTokenExpires = "secret-token", now.Add(time.Hour)
		})},
		{"headers", r22Body(nil, map[string]any{"protocolSettings": map[string]any{"method": "POST", "headers": map[string]any{
			"x-api-key": "hush-key", "authorization": "a", "HOST": "h", "Content-Type": "c", "x-correlator": "x", "connection": "close", "Transfer-Encoding": "t",
		}}}), request(func(r *gateway.SubscribeRequest) { r.Sink.Headers = map[string]string{"X-Api-Key": "hush-key"} })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			w := b.send(t, ask{method: "POST", path: r22Subs, body: text(t, tt.body)})
			if w.Code != http.StatusCreated {
				t.Fatal(w.Code, w.Body)
			}
			got := b.request.(gateway.SubscribeRequest)
			if !sameJSON(t, got.Echo, tt.want.Echo) {
				t.Errorf("echo %s, want %s", got.Echo, tt.want.Echo)
			}
			got.Echo, tt.want.Echo = nil, nil
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("the gateway was asked %+v\nwant %+v", got, tt.want)
			}
			golden(t, "subscriptions-r22-"+tt.name, w.Body.Bytes())
			for _, e := range b.ladder.entries {
				if strings.Contains(e.Text, "secret-token") || strings.Contains(e.Text, "hush-key") {
					t.Errorf("the ladder shows a secret: %s", e.Text)
				}
			}
		})
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		t.Fatalf("not JSON: %s, %s", a, b)
	}
	return reflect.DeepEqual(x, y)
}

func TestR22SubscribeRefusals(t *testing.T) {
	both := []any{r22Type + "session-status", r22Type + "registration-ends"}
	tests := []struct {
		name   string
		body   map[string]any
		token  string
		err    error
		status int
		code   string
	}{
		{"empty", map[string]any{}, "", nil, 400, "INVALID_ARGUMENT"},
		{"two types", r22Body(nil, map[string]any{"types": both}), "", nil, 400, "INVALID_ARGUMENT"},
		{"type of r3.1", r22Body(nil, map[string]any{"types": []any{r31Type + "session-status"}}), "", nil, 400, "INVALID_ARGUMENT"},
		{"no registration", r22Body(map[string]any{"registrationId": nil, "deviceId": device}, nil), "", nil, 400, "INVALID_ARGUMENT"},
		{"unknown registration", r22Body(nil, nil), "", call.Errorf(call.SubscriptionMismatch, "no"), 403, "SUBSCRIPTION_MISMATCH"},
		{"other method", r22Body(nil, map[string]any{"protocolSettings": map[string]any{"method": "PUT"}}), "", nil, 400, "INVALID_ARGUMENT"},
		{"header value with line break", r22Body(nil, map[string]any{"protocolSettings": map[string]any{"headers": map[string]any{"X": "a\r\nY: b"}}}), "", nil, 400, "INVALID_ARGUMENT"},
		{"header name with line break", r22Body(nil, map[string]any{"protocolSettings": map[string]any{"headers": map[string]any{"X\n": "a"}}}), "", nil, 400, "INVALID_ARGUMENT"},
		{"header that is no string", r22Body(nil, map[string]any{"protocolSettings": map[string]any{"headers": map[string]any{"X": 1}}}), "", nil, 400, "INVALID_ARGUMENT"},
		{"other protocol", r22Body(nil, map[string]any{"protocol": "NATS"}), "", nil, 400, "INVALID_PROTOCOL"},
		{"http sink", r22Body(nil, map[string]any{"sink": "http://a"}), "", nil, 400, "INVALID_SINK"},
		{"PLAIN", r22Body(nil, map[string]any{"sinkCredential": map[string]any{"credentialType": "PLAIN"}}), "", nil, 400, "INVALID_CREDENTIAL"},
		{"scope of another type", r22Body(nil, nil), "limited webrtc-events:" + r22Type + "registration-ends:create", nil, 403, "PERMISSION_DENIED"},
		{"scope of r3.1", r22Body(nil, nil), "limited webrtc-events-subscriptions:" + r31Type + "session-status:create", nil, 403, "PERMISSION_DENIED"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			b.err = tt.err
			w := b.send(t, ask{method: "POST", path: r22Subs, body: text(t, tt.body), token: tt.token})
			if w.Code != tt.status || code(w) != tt.code || tt.err == nil && b.called != "" {
				t.Errorf("got %d %s from %s", w.Code, w.Body, b.called)
			}
		})
	}
	b := setup(t)
	if w := b.send(t, ask{method: "PUT", path: r22Subs + "/" + subscription, body: `{}`}); w.Code != 405 || w.Header().Get("Allow") != "DELETE, GET" {
		t.Errorf("PUT: %d %v", w.Code, w.Header())
	}
}

func TestMain2606Subscribe(t *testing.T) {
	const path = "/webrtc-events/v0.3/subscriptions"
	body := subBody(map[string]any{
		"types": []any{r22Type + "session-invitation", r22Type + "session-status", r22Type + "registration-ends"},
		"more":  1, "protocolSettings": map[string]any{"method": "PUT"},
		"config": map[string]any{"subscriptionDetail": map[string]any{"deviceId": device, "registrationId": "not looked at"}, "colour": 1},
	})
	b := setup(t)
	w := b.send(t, ask{method: "POST", path: path, body: text(t, body)})
	want := gateway.SubscribeRequest{
		DeviceID: device, Types: []call.EventType{call.SessionInvitation, call.SessionStatus, call.RegistrationEnds}, Generation: Main2606,
		Sink: call.Sink{URL: "https://app.example.com/events"}, Echo: []byte(`{"deviceId":"` + device + `"}`),
	}
	if w.Code != 201 || !reflect.DeepEqual(b.request, want) {
		t.Fatalf("got %d %s from %+v", w.Code, w.Body, b.request)
	}
	golden(t, "subscriptions-main-2026-06-create", w.Body.Bytes())

	refusals := []struct {
		name string
		ask
		status int
	}{
		{"no device", ask{method: "POST", path: path, body: text(t, r22Body(nil, nil))}, 400},
		{"type of r3.1", ask{method: "POST", path: path, body: text(t, subBody(nil))}, 400},
		{"update of the sink", ask{method: "PUT", path: path + "/" + subscription, body: `{"sink":"https://a.example.com"}`}, 400},
		{"update of the number of events", ask{method: "PUT", path: path + "/" + subscription, body: `{"config":{"subscriptionMaxEvents":1}}`}, 400},
		{"update with nothing", ask{method: "PUT", path: path + "/" + subscription, body: `{}`}, 400},
	}
	for _, tt := range refusals {
		if w := b.send(t, tt.ask); w.Code != tt.status {
			t.Errorf("%s: got %d %s", tt.name, w.Code, w.Body)
		}
	}
	for _, version := range []string{"v0.3", "vwip"} {
		w := b.send(t, ask{method: "PUT", path: "/webrtc-events/" + version + "/subscriptions/" + subscription, body: `{"config":{"subscriptionExpireTime":"2026-07-01T13:00:00Z"}}`, token: "limited webrtc-events:update"})
		if w.Code != 200 {
			t.Errorf("%s: %d %s", version, w.Code, w.Body)
		}
	}
}
