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

const callsBase = "/webrtc-call-handling/v0.4/sessions"

// callBody is a good request to place a call with some properties replaced; nil
// takes one away.
func callBody(t testing.TB, change map[string]any) string {
	t.Helper()
	body := map[string]any{
		"originatorAddress": "tel:+15550100",
		"receiverAddress":   "tel:+15550199",
		"offer":             map[string]any{"sdp": offerSDP},
	}
	for k, v := range change {
		body[k] = v
		if v == nil {
			delete(body, k)
		}
	}
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func fromRegistration() http.Header { return http.Header{"Registrationid": {registration}} }

func address(t testing.TB, s string) call.Address {
	t.Helper()
	a, err := call.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCreateSession(t *testing.T) {
	plain := func(change func(*gateway.OriginateRequest)) gateway.OriginateRequest {
		r := gateway.OriginateRequest{
			RegistrationID: registration,
			Originator:     address(t, "tel:+15550100"),
			Receiver:       address(t, "tel:+15550199"),
			CallType:       call.Regular,
			Offer:          offerSDP,
		}
		change(&r)
		return r
	}
	circle := map[string]any{"latitude": 47.5, "longitude": 19.0, "radius": 20.0}
	ellipsoid := map[string]any{"latitude": 47.5, "longitude": 19.0, "zAxis": 1.0, "semiMajorAxis": 2.0, "semiMinorAxis": 3.0, "verticalAxis": 4.0, "orientation": 5.0}
	tests := []struct {
		name   string
		body   map[string]any
		header http.Header
		want   gateway.OriginateRequest
	}{
		{"plain", nil, nil, plain(func(*gateway.OriginateRequest) {})},
		{"registration in upper case", nil, http.Header{"Registrationid": {strings.ToUpper(registration)}}, plain(func(*gateway.OriginateRequest) {})},
		{"names", map[string]any{"originatorName": "Zoë", "receiverName": strings.Repeat("é", 256)}, nil, plain(func(r *gateway.OriginateRequest) {
			r.OriginatorName, r.ReceiverName = "Zoë", strings.Repeat("é", 256)
		})},
		{"older application", map[string]any{"clientCorrelator": "x"}, nil, plain(func(*gateway.OriginateRequest) {})},
		{"older application with null", map[string]any{"clientCorrelator": json.RawMessage("null")}, nil, plain(func(*gateway.OriginateRequest) {})},
		{"anonymous", map[string]any{"originatorAddress": "sip:anonymous@anonymous.invalid"}, nil, plain(func(r *gateway.OriginateRequest) {
			r.Originator = call.AnonymousAddress()
		})},
		{"emergency", map[string]any{"receiverAddress": "urn:service:sos.fire", "callType": "EMERGENCY"}, nil, plain(func(r *gateway.OriginateRequest) {
			r.Receiver, r.CallType = address(t, "urn:service:sos.fire"), call.Emergency
		})},
		{"local number", map[string]any{"receiverAddress": "tel:100;phone-context=+1555"}, nil, plain(func(r *gateway.OriginateRequest) {
			r.Receiver = address(t, "tel:100;phone-context=+1555")
		})},
		{"SIP address", map[string]any{"receiverAddress": "sip:ann@example.com"}, nil, plain(func(r *gateway.OriginateRequest) {
			r.Receiver = address(t, "sip:ann@example.com")
		})},
		{"circle", map[string]any{"locationDetails": map[string]any{"shape": "Circle", "coordinates": circle, "method": "GPS", "confidence": map[string]any{"pdf": "normal", "value": 95}, "timestamp": "2026-07-01T12:00:00Z"}}, nil, plain(func(r *gateway.OriginateRequest) {
			r.Location = &call.Location{Shape: "Circle", Circle: &call.Circle{Latitude: 47.5, Longitude: 19, Radius: 20}, Method: "GPS", Confidence: &call.Confidence{PDF: "normal", Value: 95}, Timestamp: at(0)}
		})},
		{"ellipsoid without shape", map[string]any{"locationDetails": map[string]any{"coordinates": ellipsoid}}, nil, plain(func(r *gateway.OriginateRequest) {
			r.Location = &call.Location{Ellipsoid: &call.Ellipsoid{Latitude: 47.5, Longitude: 19, ZAxis: 1, SemiMajorAxis: 2, SemiMinorAxis: 3, VerticalAxis: 4, Orientation: 5}}
		})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			if tt.header == nil {
				tt.header = fromRegistration()
			}
			w := b.send(t, ask{method: "POST", path: callsBase, body: callBody(t, tt.body), header: tt.header})
			if w.Code != http.StatusCreated {
				t.Fatal(w.Code, w.Body)
			}
			if !reflect.DeepEqual(b.request, tt.want) {
				t.Errorf("the gateway was asked %s(%+v), want %+v", b.called, b.request, tt.want)
			}
		})
	}
}

func TestCreateSessionRefusals(t *testing.T) {
	location := func(v any) map[string]any { return map[string]any{"locationDetails": v} }
	tests := []struct {
		name   string
		body   map[string]any
		header http.Header
		err    error
		status int
		code   string
	}{
		{"no registration", nil, http.Header{}, nil, 400, "INVALID_ARGUMENT"},
		{"empty registration", nil, http.Header{"Registrationid": {""}}, nil, 400, "INVALID_ARGUMENT"},
		{"two registrations", nil, http.Header{"Registrationid": {"a", "b"}}, nil, 400, "INVALID_ARGUMENT"},
		{"long registration", nil, http.Header{"Registrationid": {strings.Repeat("a", 257)}}, nil, 400, "INVALID_ARGUMENT"},
		{"no originator", map[string]any{"originatorAddress": nil}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"no receiver", map[string]any{"receiverAddress": nil}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"bad receiver", map[string]any{"receiverAddress": "15550199"}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"receiver with header injection", map[string]any{"receiverAddress": "sip:a@example.com\r\nEvil: 1"}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"anonymous receiver", map[string]any{"receiverAddress": "sip:anonymous@anonymous.invalid"}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"number beginning with 0", map[string]any{"receiverAddress": "tel:+05550199"}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"no offer", map[string]any{"offer": nil}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"offer without sdp", map[string]any{"offer": map[string]any{}}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"empty offer", map[string]any{"offer": map[string]any{"sdp": ""}}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"offer that is no SDP", map[string]any{"offer": map[string]any{"sdp": "hello"}}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"offer too long", map[string]any{"offer": map[string]any{"sdp": "v=0\r\n" + strings.Repeat("a", 65532)}}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"offer as text", map[string]any{"offer": offerSDP}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"unknown property in offer", map[string]any{"offer": map[string]any{"sdp": offerSDP, "candidates": []any{}}}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"answer", map[string]any{"answer": map[string]any{"sdp": answerSDP}}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"status", map[string]any{"status": "Initial"}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"unknown call type", map[string]any{"callType": "VIDEO"}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"name too long", map[string]any{"originatorName": strings.Repeat("é", 257)}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"name with line break", map[string]any{"originatorName": "a\r\nb"}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"receiver's name with C1 control", map[string]any{"receiverName": "a\u0085b"}, nil, nil, 400, "INVALID_ARGUMENT"},
		{"shape and coordinates differ", location(map[string]any{"shape": "Ellipsoid", "coordinates": map[string]any{"latitude": 1, "longitude": 1, "radius": 1}}), nil, nil, 400, "INVALID_ARGUMENT"},
		{"unknown shape", location(map[string]any{"shape": "Square"}), nil, nil, 400, "INVALID_ARGUMENT"},
		{"incomplete circle", location(map[string]any{"coordinates": map[string]any{"latitude": 1, "longitude": 1}}), nil, nil, 400, "INVALID_ARGUMENT"},
		{"latitude out of range", location(map[string]any{"coordinates": map[string]any{"latitude": 91, "longitude": 1, "radius": 1}}), nil, nil, 400, "INVALID_ARGUMENT"},
		{"confidence out of range", location(map[string]any{"confidence": map[string]any{"value": 101}}), nil, nil, 400, "INVALID_ARGUMENT"},
		{"unknown property in location", location(map[string]any{"city": "X"}), nil, nil, 400, "INVALID_ARGUMENT"},
		{"other originator", nil, nil, call.Errorf(call.InvalidTokenContext, "originatorAddress is not the number of the token"), 403, "INVALID_TOKEN_CONTEXT"},
		{"no emergency", nil, nil, call.Errorf(call.EmergencyNotSupported, "no"), 501, "CALLTYPE_EMERGENCY_NOT_SUPPORTED"},
		{"network down", nil, nil, call.Errorf(call.Unavailable, "no"), 503, "UNAVAILABLE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			b.err = tt.err
			if tt.header == nil {
				tt.header = fromRegistration()
			}
			w := b.send(t, ask{method: "POST", path: callsBase, body: callBody(t, tt.body), header: tt.header})
			if w.Code != tt.status || code(w) != tt.code {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, tt.status, tt.code)
			}
			if tt.err == nil && b.called != "" {
				t.Errorf("the gateway was asked %s", b.called)
			}
		})
	}
}

func TestSessionAnswers(t *testing.T) {
	full := func(m *call.MediaSession) {
		m.Status, m.Answer, m.OriginatorName, m.ReceiverName = call.Connected, answerSDP, "Zoë <z>", "Bob"
		m.Location = &call.Location{Shape: "Circle", Circle: &call.Circle{Latitude: 1, Longitude: 2, Radius: 3}, Method: "GPS", Confidence: &call.Confidence{PDF: "uniform", Value: 50}, Timestamp: at(time.Millisecond)}
		m.ClientCorrelator, m.Reason = "not shown", "not shown"
	}
	tests := []struct {
		name string
		ask
		change  func(*call.MediaSession)
		status  int
		called  string
		request any
	}{
		{"create", ask{method: "POST", path: callsBase, body: callBody(t, nil), header: fromRegistration()}, nil, 201, "Originate", nil},
		{"get", ask{method: "GET", path: callsBase + "/" + strings.ToUpper(session)}, full, 200, "Session", nil},
		{"get without offer", ask{method: "GET", path: callsBase + "/" + session}, func(m *call.MediaSession) { m.Offer = "" }, 200, "Session", nil},
		{"get emergency", ask{method: "GET", path: callsBase + "/" + session}, func(m *call.MediaSession) {
			m.CallType, m.Receiver = call.Emergency, address(t, "urn:service:sos")
			m.Location = &call.Location{Ellipsoid: &call.Ellipsoid{Latitude: 1, Orientation: 7}}
		}, 200, "Session", nil},
		{"ring", ask{method: "PUT", path: callsBase + "/" + session + "/status", body: `{"status":"Ringing"}`}, func(m *call.MediaSession) { m.Status = call.Ringing }, 200, "UpdateSession", gateway.StatusRequest{Status: call.Ringing}},
		{"accept", ask{method: "PUT", path: callsBase + "/" + session + "/status", body: `{"status":"InProgress","answer":{"sdp":"v=0\r\no=- 3 4 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"},"originatorAddress":"x","originatorName":7,"receiverAddress":null,"receiverName":"","mediaSessionId":"y","callType":"z"}`}, full, 200, "UpdateSession", gateway.StatusRequest{Status: call.InProgress, Answer: answerSDP}},
		{"hold", ask{method: "PUT", path: callsBase + "/" + session + "/status", body: `{"status":"Hold","offer":{"sdp":"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"}}`}, func(m *call.MediaSession) { m.Status = call.Hold }, 200, "UpdateSession", gateway.StatusRequest{Status: call.Hold, Offer: offerSDP}},
		{"move", ask{method: "PUT", path: callsBase + "/" + session + "/status", body: `{"status":"Connected","locationDetails":{"method":"GPS"}}`}, full, 200, "UpdateSession", gateway.StatusRequest{Status: call.Connected, Location: &call.Location{Method: "GPS"}}},
		{"delete", ask{method: "DELETE", path: callsBase + "/" + session, header: fromRegistration()}, nil, 204, "EndSession", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			if tt.change != nil {
				tt.change(&b.session)
			}
			w := b.send(t, tt.ask)
			if w.Code != tt.status || b.called != tt.called {
				t.Fatalf("got %d %s from %s, want %d from %s", w.Code, w.Body, b.called, tt.status, tt.called)
			}
			if tt.method != "POST" && b.id != session {
				t.Errorf("the gateway was asked for %q", b.id)
			}
			if tt.request != nil && !reflect.DeepEqual(b.request, tt.request) {
				t.Errorf("the gateway was asked %+v", b.request)
			}
			if w.Body.Len() > 0 {
				golden(t, "calls-r31-"+tt.name, w.Body.Bytes())
			}
		})
	}
}

func TestSessionRefusals(t *testing.T) {
	path := callsBase + "/" + session
	tests := []struct {
		name string
		ask
		err    error
		status int
		code   string
	}{
		{"no body", ask{method: "PUT", path: path + "/status"}, nil, 400, "INVALID_ARGUMENT"},
		{"empty", ask{method: "PUT", path: path + "/status", body: `{}`}, nil, 400, "INVALID_ARGUMENT"},
		{"status that cannot be asked for", ask{method: "PUT", path: path + "/status", body: `{"status":"Terminated"}`}, nil, 400, "INVALID_ARGUMENT"},
		{"Initial", ask{method: "PUT", path: path + "/status", body: `{"status":"Initial"}`}, nil, 400, "INVALID_ARGUMENT"},
		{"status in lower case", ask{method: "PUT", path: path + "/status", body: `{"status":"ringing"}`}, nil, 400, "INVALID_ARGUMENT"},
		{"unknown property", ask{method: "PUT", path: path + "/status", body: `{"status":"Ringing","colour":1}`}, nil, 400, "INVALID_ARGUMENT"},
		{"empty answer", ask{method: "PUT", path: path + "/status", body: `{"status":"InProgress","answer":{}}`}, nil, 400, "INVALID_ARGUMENT"},
		{"answer that is no SDP", ask{method: "PUT", path: path + "/status", body: `{"status":"InProgress","answer":{"sdp":"v=1"}}`}, nil, 400, "INVALID_ARGUMENT"},
		{"wrong state", ask{method: "PUT", path: path + "/status", body: `{"status":"Hold"}`}, call.Errorf(call.IncompatibleState, "no"), 409, "INCOMPATIBLE_STATE"},
		{"unknown session", ask{method: "PUT", path: path + "/status", body: `{"status":"Hold"}`}, call.Errorf(call.NotFound, "no"), 404, "NOT_FOUND"},
		{"get unknown", ask{method: "GET", path: path}, call.Errorf(call.NotFound, "no"), 404, "NOT_FOUND"},
		{"delete unknown", ask{method: "DELETE", path: path}, call.Errorf(call.NotFound, "no"), 404, "NOT_FOUND"},
		{"put without status in the path", ask{method: "PUT", path: path, body: `{"status":"Hold"}`}, nil, 405, "METHOD_NOT_ALLOWED"},
		{"delete the status", ask{method: "DELETE", path: path + "/status"}, nil, 405, "METHOD_NOT_ALLOWED"},
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
