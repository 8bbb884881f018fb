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
	subsBase = "/webrtc-events-subscriptions/v0.3/subscriptions"
	r31Type  = "org.camaraproject.webrtc-events-subscriptions.v0."
)

// with is a JSON object with some properties replaced; nil takes one away.
func with(object map[string]any, change map[string]any) map[string]any {
	all := map[string]any{}
	for k, v := range object {
		all[k] = v
	}
	for k, v := range change {
		all[k] = v
		if v == nil {
			delete(all, k)
		}
	}
	return all
}

func text(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func sinkCredential(change map[string]any) map[string]any {
	return with(map[string]any{
		"credentialType": "ACCESSTOKEN", "accessToken": "secret-token", "accessTokenType": "bearer",
		"accessTokenExpiresUtc": "2026-07-01T13:00:00Z",
	}, change)
}

func subBody(change map[string]any) map[string]any {
	return with(map[string]any{
		"protocol": "HTTP",
		"sink":     "https://app.example.com/events",
		"types":    []any{r31Type + "session-invitation"},
		"config":   map[string]any{"subscriptionDetail": map[string]any{"deviceId": device}},
	}, change)
}

func subConfig(change map[string]any) map[string]any {
	return map[string]any{"config": with(map[string]any{"subscriptionDetail": map[string]any{"deviceId": device}}, change)}
}

func TestSubscribe(t *testing.T) {
	request := func(change func(*gateway.SubscribeRequest)) gateway.SubscribeRequest {
		r := gateway.SubscribeRequest{
			DeviceID: device, Types: []call.EventType{call.SessionInvitation}, Generation: R31,
			Sink: call.Sink{URL: "https://app.example.com/events"}, Echo: []byte(`{"deviceId":"` + device + `"}`),
		}
		change(&r)
		return r
	}
	yes := true
	tests := []struct {
		name string
		body map[string]any
		want gateway.SubscribeRequest
	}{
		{"plain", subBody(nil), request(func(*gateway.SubscribeRequest) {})},
		{"all types", subBody(map[string]any{"types": []any{r31Type + "session-invitation", r31Type + "session-status", r31Type + "registration-ends"}}), request(func(r *gateway.SubscribeRequest) {
			r.Types = []call.EventType{call.SessionInvitation, call.SessionStatus, call.RegistrationEnds}
		})},
		{"one type twice", subBody(map[string]any{"types": []any{r31Type + "session-status", r31Type + "session-status"}}), request(func(r *gateway.SubscribeRequest) {
			r.Types = []call.EventType{call.SessionStatus}
		})},
		{"credential", subBody(map[string]any{"sinkCredential": sinkCredential(nil)}), request(func(r *gateway.SubscribeRequest) {
			r.Sink.AccessToken, r.Sink.AccessTokenExpires = "secret-token", now.Add(time.Hour)
		})},
		{"limits", subBody(subConfig(map[string]any{"subscriptionExpireTime": "2026-07-01T14:00:00+01:00", "subscriptionMaxEvents": 50, "initialEvent": true})), request(func(r *gateway.SubscribeRequest) {
			r.Expires, r.MaxEvents, r.InitialEvent = at(time.Hour), 50, &yes
		})},
		{"older detail", subBody(map[string]any{"config": map[string]any{"subscriptionDetail": map[string]any{"deviceId": strings.ToUpper(device), "registrationId": "r", "mediaSessionId": 1, "sessionId": nil}}}), request(func(r *gateway.SubscribeRequest) {
			r.Echo = []byte(`{"deviceId":"` + strings.ToUpper(device) + `"}`)
		})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			w := b.send(t, ask{method: "POST", path: subsBase, body: text(t, tt.body)})
			if w.Code != http.StatusCreated {
				t.Fatal(w.Code, w.Body)
			}
			if !reflect.DeepEqual(b.request, tt.want) {
				t.Errorf("the gateway was asked %+v\nwant %+v", b.request, tt.want)
			}
			golden(t, "subscriptions-r31-"+tt.name, w.Body.Bytes())
			for _, e := range b.ladder.entries {
				if strings.Contains(e.Text, "secret-token") {
					t.Errorf("the ladder shows the sink's token: %s", e.Text)
				}
			}
		})
	}
}

func TestSubscribeRefusals(t *testing.T) {
	tests := []struct {
		name   string
		body   map[string]any
		token  string
		err    error
		status int
		code   string
	}{
		{"empty", map[string]any{}, "", nil, 400, "INVALID_ARGUMENT"},
		{"no protocol", subBody(map[string]any{"protocol": nil}), "", nil, 400, "INVALID_ARGUMENT"},
		{"other protocol", subBody(map[string]any{"protocol": "MQTT5"}), "", nil, 400, "INVALID_PROTOCOL"},
		{"other protocol and more wrong", map[string]any{"protocol": "AMQP", "x": 1}, "", nil, 400, "INVALID_PROTOCOL"},
		{"no sink", subBody(map[string]any{"sink": nil}), "", nil, 400, "INVALID_ARGUMENT"},
		{"empty sink", subBody(map[string]any{"sink": ""}), "", nil, 400, "INVALID_SINK"},
		{"http sink", subBody(map[string]any{"sink": "http://app.example.com"}), "", nil, 400, "INVALID_SINK"},
		{"sink without host", subBody(map[string]any{"sink": "https:///events"}), "", nil, 400, "INVALID_SINK"},
		{"sink that is no URL", subBody(map[string]any{"sink": "https://a b"}), "", nil, 400, "INVALID_SINK"},
		{"sink with password", subBody(map[string]any{"sink": "https://u:p@example.com"}), "", nil, 400, "INVALID_SINK"},
		{"sink with fragment", subBody(map[string]any{"sink": "https://example.com/#x"}), "", nil, 400, "INVALID_SINK"},
		{"long sink", subBody(map[string]any{"sink": "https://example.com/" + strings.Repeat("a", 1024)}), "", nil, 400, "INVALID_SINK"},
		{"sink refused by policy", subBody(nil), "", call.Errorf(call.InvalidSink, "private address"), 400, "INVALID_SINK"},
		{"no types", subBody(map[string]any{"types": []any{}}), "", nil, 400, "INVALID_ARGUMENT"},
		{"four types", subBody(map[string]any{"types": []any{r31Type + "session-status", r31Type + "session-status", r31Type + "session-status", r31Type + "session-status"}}), "", nil, 400, "INVALID_ARGUMENT"},
		{"unknown type", subBody(map[string]any{"types": []any{r31Type + "weather"}}), "", nil, 400, "INVALID_ARGUMENT"},
		{"implicit type", subBody(map[string]any{"types": []any{r31Type + "subscription-ended"}}), "", nil, 400, "INVALID_ARGUMENT"},
		{"mixed prefixes", subBody(map[string]any{"types": []any{r31Type + "session-status", "org.camaraproject.webrtc-events.v0.session-status"}}), "", nil, 400, "INVALID_ARGUMENT"},
		{"no config", subBody(map[string]any{"config": nil}), "", nil, 400, "INVALID_ARGUMENT"},
		{"no detail", subBody(map[string]any{"config": map[string]any{}}), "", nil, 400, "INVALID_ARGUMENT"},
		{"no device", subBody(map[string]any{"config": map[string]any{"subscriptionDetail": map[string]any{"registrationId": "r"}}}), "", nil, 400, "INVALID_ARGUMENT"},
		{"unknown property in config", subBody(subConfig(map[string]any{"colour": 1})), "", nil, 400, "INVALID_ARGUMENT"},
		{"no events", subBody(subConfig(map[string]any{"subscriptionMaxEvents": 0})), "", nil, 400, "INVALID_ARGUMENT"},
		{"too many events", subBody(subConfig(map[string]any{"subscriptionMaxEvents": 1000001})), "", nil, 400, "INVALID_ARGUMENT"},
		{"half an event", subBody(subConfig(map[string]any{"subscriptionMaxEvents": 1.5})), "", nil, 400, "INVALID_ARGUMENT"},
		{"expiry without zone", subBody(subConfig(map[string]any{"subscriptionExpireTime": "2026-07-01T14:00:00"})), "", nil, 400, "INVALID_ARGUMENT"},
		{"expiry out of range", subBody(nil), "", call.Errorf(call.OutOfRange, "past"), 400, "OUT_OF_RANGE"},
		{"PLAIN", subBody(map[string]any{"sinkCredential": map[string]any{"credentialType": "PLAIN", "identifier": "a", "secret": "b"}}), "", nil, 400, "INVALID_CREDENTIAL"},
		{"REFRESHTOKEN", subBody(map[string]any{"sinkCredential": sinkCredential(map[string]any{"credentialType": "REFRESHTOKEN"})}), "", nil, 400, "INVALID_CREDENTIAL"},
		{"PRIVATE_KEY_JWT", subBody(map[string]any{"sinkCredential": sinkCredential(map[string]any{"credentialType": "PRIVATE_KEY_JWT"})}), "", nil, 400, "INVALID_CREDENTIAL"},
		{"other token type", subBody(map[string]any{"sinkCredential": sinkCredential(map[string]any{"accessTokenType": "mac"})}), "", nil, 400, "INVALID_TOKEN"},
		{"no credential type", subBody(map[string]any{"sinkCredential": sinkCredential(map[string]any{"credentialType": nil})}), "", nil, 400, "INVALID_ARGUMENT"},
		{"no token", subBody(map[string]any{"sinkCredential": sinkCredential(map[string]any{"accessToken": nil})}), "", nil, 400, "INVALID_ARGUMENT"},
		{"token with line break", subBody(map[string]any{"sinkCredential": sinkCredential(map[string]any{"accessToken": "a\r\nb"})}), "", nil, 400, "INVALID_ARGUMENT"},
		{"token expired", subBody(nil), "", call.Errorf(call.InvalidCredential, "expired"), 400, "INVALID_CREDENTIAL"},
		{"scope of no type", subBody(nil), "limited webrtc-events-subscriptions:read", nil, 403, "PERMISSION_DENIED"},
		{"scope of another type", subBody(nil), "limited webrtc-events-subscriptions:" + r31Type + "session-status:create", nil, 403, "PERMISSION_DENIED"},
		{"scope of one type of two", subBody(map[string]any{"types": []any{r31Type + "session-status", r31Type + "registration-ends"}}), "limited webrtc-events-subscriptions:" + r31Type + "session-status:create", nil, 403, "PERMISSION_DENIED"},
		{"mismatch", subBody(nil), "", call.Errorf(call.SubscriptionMismatch, "no"), 403, "SUBSCRIPTION_MISMATCH"},
		{"quota", subBody(nil), "", call.Errorf(call.QuotaExceeded, "100"), 429, "QUOTA_EXCEEDED"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			b.err = tt.err
			w := b.send(t, ask{method: "POST", path: subsBase, body: text(t, tt.body), token: tt.token})
			if w.Code != tt.status || code(w) != tt.code {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, tt.status, tt.code)
			}
			if tt.err == nil && b.called != "" {
				t.Errorf("the gateway was asked %s", b.called)
			}
		})
	}
}

func TestSubscriptionAnswers(t *testing.T) {
	path := subsBase + "/" + subscription
	hush, expiry := "secret-token", now.Add(time.Hour)
	tests := []struct {
		name string
		ask
		status  int
		called  string
		request any
	}{
		{"get", ask{method: "GET", path: subsBase + "/" + strings.ToUpper(subscription)}, 200, "Subscription", nil},
		{"update expiry", ask{method: "PUT", path: path, body: `{"config":{"subscriptionExpireTime":"2026-07-01T13:00:00Z"}}`}, 200, "UpdateSubscription", gateway.UpdateSubscriptionRequest{Expires: at(time.Hour)}},
		{"update credential", ask{method: "PUT", path: path, body: text(t, map[string]any{"sinkCredential": sinkCredential(nil)})}, 200, "UpdateSubscription", gateway.UpdateSubscriptionRequest{AccessToken: &hush, AccessTokenExpires: &expiry}},
		{"delete", ask{method: "DELETE", path: path}, 204, "Unsubscribe", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			w := b.send(t, tt.ask)
			if w.Code != tt.status || b.called != tt.called || b.id != subscription {
				t.Fatalf("got %d %s from %s(%s)", w.Code, w.Body, b.called, b.id)
			}
			if !reflect.DeepEqual(b.request, tt.request) {
				t.Errorf("the gateway was asked %+v", b.request)
			}
			if strings.Contains(w.Body.String(), "sinkCredential") || strings.Contains(w.Body.String(), "hush") {
				t.Errorf("the answer shows the sink's credential: %s", w.Body)
			}
			if w.Body.Len() > 0 {
				golden(t, "subscriptions-r31-"+tt.name, w.Body.Bytes())
			}
		})
	}
}

// A subscription made through another generation keeps that one's spelling.
func TestSubscriptionList(t *testing.T) {
	b := setup(t)
	older := b.subscription
	older.Generation, older.Echo = R22, []byte(`{"registrationId":"`+registration+`"}`)
	b.subscriptions = []call.Subscription{b.subscription, older}
	w := b.send(t, ask{method: "GET", path: subsBase})
	if w.Code != http.StatusOK {
		t.Fatal(w.Code, w.Body)
	}
	golden(t, "subscriptions-r31-list", w.Body.Bytes())

	b.subscriptions = nil
	for range 120 {
		b.subscriptions = append(b.subscriptions, older)
	}
	for path, want := range map[string]int{subsBase: 100, r22Subs: 120, "/webrtc-events/v0.3/subscriptions": 100} {
		var list []any
		if w := b.send(t, ask{method: "GET", path: path}); json.Unmarshal(w.Body.Bytes(), &list) != nil || len(list) != want {
			t.Errorf("%s lists %d", path, len(list))
		}
	}
	b.subscriptions = nil
	if w := b.send(t, ask{method: "GET", path: subsBase}); w.Body.String() != "[]" {
		t.Errorf("no subscriptions are shown as %s", w.Body)
	}
}

func TestSubscriptionRefusals(t *testing.T) {
	path := subsBase + "/" + subscription
	tests := []struct {
		name string
		ask
		err    error
		status int
		code   string
	}{
		{"update without body", ask{method: "PUT", path: path}, nil, 400, "INVALID_ARGUMENT"},
		{"update with nothing", ask{method: "PUT", path: path, body: `{}`}, nil, 400, "INVALID_ARGUMENT"},
		{"update the sink", ask{method: "PUT", path: path, body: `{"sink":"https://other.example.com"}`}, nil, 400, "INVALID_ARGUMENT"},
		{"update the number of events", ask{method: "PUT", path: path, body: `{"config":{"subscriptionMaxEvents":5}}`}, nil, 400, "INVALID_ARGUMENT"},
		{"update to a plain credential", ask{method: "PUT", path: path, body: `{"sinkCredential":{"credentialType":"PLAIN"}}`}, nil, 400, "INVALID_CREDENTIAL"},
		{"update unknown", ask{method: "PUT", path: path, body: `{"config":{}}`}, call.Errorf(call.NotFound, "no"), 404, "NOT_FOUND"},
		{"get unknown", ask{method: "GET", path: path}, call.Errorf(call.NotFound, "no"), 404, "NOT_FOUND"},
		{"delete unknown", ask{method: "DELETE", path: path}, call.Errorf(call.NotFound, "no"), 404, "NOT_FOUND"},
		{"get without id", ask{method: "GET", path: subsBase + "/"}, nil, 400, "INVALID_ARGUMENT"},
		{"delete without id", ask{method: "DELETE", path: subsBase}, nil, 400, "INVALID_ARGUMENT"},
		{"update without id", ask{method: "PUT", path: subsBase, body: `{}`}, nil, 400, "INVALID_ARGUMENT"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			b.err = tt.err
			w := b.send(t, tt.ask)
			if w.Code != tt.status || code(w) != tt.code {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, tt.status, tt.code)
			}
		})
	}
}
