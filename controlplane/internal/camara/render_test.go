package camara

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara/apidoc"
)

func change(t testing.TB) call.SessionChange {
	return call.SessionChange{
		MediaSessionID: session, CallID: "call-1", Originator: address(t, "tel:+15550100"), Receiver: address(t, "tel:100;phone-context=+1555"),
		OriginatorName: "Zoë <z>", Status: call.Ringing, Reason: "SIP 180 Ringing", Answer: answerSDP, Sequence: 3, CallType: call.Regular,
		Location:         &call.Location{Circle: &call.Circle{Latitude: 1, Longitude: 2, Radius: 3}, Method: "GPS"},
		ClientCorrelator: "mine", ServerCorrelator: "ours",
	}
}

func TestRender(t *testing.T) {
	invitation := change(t)
	invitation.Status, invitation.Offer, invitation.Answer, invitation.Reason = call.Initial, offerSDP, "", ""
	status := change(t)
	bare := call.SessionChange{MediaSessionID: session, Status: call.Terminated, Sequence: 9, Originator: address(t, "urn:service:sos.fire"), Receiver: call.AnonymousAddress()}
	events := map[string]call.Event{
		"invitation":         {ID: "e-1", Type: call.SessionInvitation, Time: now, Session: &invitation},
		"status":             {ID: "e-2", Type: call.SessionStatus, Time: now, Session: &status},
		"bare status":        {ID: "e-3", Type: call.SessionStatus, Time: now, Session: &bare},
		"registration ends":  {ID: "e-4", Type: call.RegistrationEnds, Time: now, Registration: &call.RegistrationEnd{RegistrationID: registration, Reason: call.RegistrationExpired, Description: "It ran out."}},
		"subscription ended": {ID: "e-5", Type: call.SubscriptionEnded, Time: now, Subscription: &call.SubscriptionStop{Reason: call.MaxEventsReached, Description: strings.Repeat("é", 3000)}},
	}
	apis := map[string]string{R31: "webrtc-events-subscriptions", R22: "webrtc-events", Main2606: "webrtc-events"}
	for generation, api := range apis {
		doc, err := apidoc.Load(api, generation)
		if err != nil {
			t.Fatal(err)
		}
		sub := call.Subscription{ID: subscription, Generation: generation, Sink: call.Sink{URL: "https://app.example.com", AccessToken: "secret", Headers: map[string]string{"X-Api-Key": "k", "content-type": "text/html", "authorization": "mine"}}}
		for name, e := range events {
			t.Run(generation+" "+name, func(t *testing.T) {
				renderer := NewRenderer(Default())
				body, header, err := renderer.Render(sub, e)
				if err != nil {
					t.Fatal(err)
				}
				var v any
				if err := json.Unmarshal(body, &v); err != nil {
					t.Fatal(err)
				}
				for _, violation := range doc.CheckSchema("Event", v) {
					t.Errorf("%s: %s", violation, body)
				}
				again, _, err := renderer.Render(sub, e)
				if err != nil || string(again) != string(body) {
					t.Errorf("rendered again it differs: %v", err)
				}
				want := map[string][]string{"Content-Type": {"application/cloudevents+json"}, "X-Correlator": {e.ID}, "Authorization": {"Bearer secret"}, "X-Api-Key": {"k"}}
				if !reflect.DeepEqual(map[string][]string(header), want) {
					t.Errorf("header %v", header)
				}
				golden(t, "event-"+generation+"-"+name, body)
			})
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	for _, e := range []call.Event{
		{Type: "weather"},
		{Type: call.SessionStatus},
		{Type: call.SessionStatus, Registration: &call.RegistrationEnd{}},
		{Type: call.RegistrationEnds, Session: &call.SessionChange{}},
	} {
		if _, _, err := NewRenderer(Default()).Render(call.Subscription{}, e); err == nil {
			t.Errorf("%+v was rendered", e)
		}
	}
}

// The published schema of older generations wants two attributes in the envelope,
// which are put there only on request.
func TestRenderEnvelope(t *testing.T) {
	c := change(t)
	status := call.Event{ID: "e-1", Type: call.SessionStatus, Time: now, Session: &c}
	config := Default()
	config.R22.EnvelopeAttributes = true
	for generation, want := range map[string]bool{R22: true, Main2606: true, R31: false, "": false} {
		body, _, err := NewRenderer(config).Render(call.Subscription{ID: subscription, Generation: generation}, status)
		if err != nil {
			t.Fatal(err)
		}
		var envelope map[string]any
		if err := json.Unmarshal(body, &envelope); err != nil {
			t.Fatal(err)
		}
		if got := envelope["mediaSessionId"] == session && envelope["status"] == "Ringing"; got != want {
			t.Errorf("%q: %s", generation, body)
		}
	}
}

// Events of a generation that is not served any more are still sent.
func TestRenderOutlivesConfiguration(t *testing.T) {
	b := setup(t, func(c *Config) { c.Generations = []string{R31} })
	c := change(t)
	body, _, err := b.api.Render(call.Subscription{ID: subscription, Generation: R22}, call.Event{ID: "e-1", Type: call.SessionStatus, Time: now, Session: &c})
	if err != nil || !strings.Contains(string(body), `"type":"org.camaraproject.webrtc-events.v0.session-status"`) {
		t.Errorf("got %s, %v", body, err)
	}
}
