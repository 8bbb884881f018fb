package camara

import (
	"fmt"
	"net/http"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Renderer shapes events for sinks.
type Renderer struct {
	source   string
	home     string
	envelope bool
}

// NewRenderer makes a Renderer of every generation, served or not: subscriptions
// outlive a change of configuration.
func NewRenderer(c Config) Renderer {
	return Renderer{source: c.EventSource, home: c.R22.HomeDomain, envelope: c.R22.EnvelopeAttributes}
}

// cloudEvent is CloudEvents 1.0 in JSON.
type cloudEvent struct {
	ID              string `json:"id"`
	Source          string `json:"source"`
	Type            string `json:"type"`
	SpecVersion     string `json:"specversion"`
	Time            string `json:"time"`
	DataContentType string `json:"datacontenttype"`
	// MediaSessionID and Status stand here only by configuration.
	MediaSessionID string      `json:"mediaSessionId,omitempty"`
	Status         call.Status `json:"status,omitempty"`
	Data           any         `json:"data"`
}

// sessionData is the data of session-invitation and session-status.
type sessionData struct {
	SubscriptionID    string        `json:"subscriptionId"`
	MediaSessionID    string        `json:"mediaSessionId"`
	ClientCorrelator  string        `json:"clientCorrelator,omitempty"`
	ServerCorrelator  string        `json:"serverCorrelator,omitempty"`
	CallObjectRef     string        `json:"callObjectRef,omitempty"`
	OriginatorAddress string        `json:"originatorAddress,omitempty"`
	OriginatorName    string        `json:"originatorName,omitempty"`
	ReceiverAddress   string        `json:"receiverAddress,omitempty"`
	ReceiverName      string        `json:"receiverName,omitempty"`
	Status            call.Status   `json:"status"`
	Offer             *description  `json:"offer,omitempty"`
	Answer            *description  `json:"answer,omitempty"`
	Reason            string        `json:"reason,omitempty"`
	SequenceNumber    int32         `json:"sequenceNumber,omitempty"`
	LocationDetails   *locationView `json:"locationDetails,omitempty"`
}

type registrationData struct {
	SubscriptionID         string         `json:"subscriptionId"`
	RegistrationID         string         `json:"registrationId"`
	TerminationReason      call.EndReason `json:"terminationReason"`
	TerminationDescription string         `json:"terminationDescription,omitempty"`
}

type subscriptionData struct {
	SubscriptionID         string         `json:"subscriptionId"`
	TerminationReason      call.EndReason `json:"terminationReason"`
	TerminationDescription string         `json:"terminationDescription,omitempty"`
}

// maxText bounds reasons and descriptions, in characters.
const maxText = 2048

// Render makes the body and the header of the request that delivers an event.
func (r Renderer) Render(sub call.Subscription, e call.Event) ([]byte, http.Header, error) {
	d := dialectOf(sub.Generation)
	event := cloudEvent{
		ID:              e.ID,
		Source:          r.source,
		Type:            d.typeName(e.Type),
		SpecVersion:     "1.0",
		Time:            instant(e.Time),
		DataContentType: "application/json",
	}
	switch {
	case (e.Type == call.SessionInvitation || e.Type == call.SessionStatus) && e.Session != nil:
		event.Data = r.session(d, sub, *e.Session)
		if r.envelope && d.narrow && e.Type == call.SessionStatus {
			event.MediaSessionID, event.Status = e.Session.MediaSessionID, e.Session.Status
		}
	case e.Type == call.RegistrationEnds && e.Registration != nil:
		event.Data = registrationData{
			SubscriptionID:         sub.ID,
			RegistrationID:         e.Registration.RegistrationID,
			TerminationReason:      e.Registration.Reason,
			TerminationDescription: bounded(e.Registration.Description),
		}
	case e.Type == call.SubscriptionEnded && e.Subscription != nil:
		event.Data = subscriptionData{
			SubscriptionID:         sub.ID,
			TerminationReason:      e.Subscription.Reason,
			TerminationDescription: bounded(e.Subscription.Description),
		}
	default:
		return nil, nil, fmt.Errorf("render event %s: the type %q does not go with what the event carries", e.ID, e.Type)
	}
	body, err := encode(event)
	if err != nil {
		return nil, nil, fmt.Errorf("render event %s: %w", e.ID, err)
	}
	return body, r.header(sub, e), nil
}

func (r Renderer) session(d dialect, sub call.Subscription, c call.SessionChange) sessionData {
	data := sessionData{
		SubscriptionID:    sub.ID,
		MediaSessionID:    c.MediaSessionID,
		OriginatorAddress: c.Originator.String(),
		OriginatorName:    c.OriginatorName,
		ReceiverAddress:   c.Receiver.String(),
		ReceiverName:      c.ReceiverName,
		Status:            c.Status,
		Offer:             describe(c.Offer),
		Answer:            describe(c.Answer),
		Reason:            bounded(c.Reason),
		SequenceNumber:    c.Sequence,
	}
	if d.narrow {
		data.OriginatorAddress = narrowAddress(c.Originator, r.home)
		data.ReceiverAddress = narrowAddress(c.Receiver, r.home)
	}
	if d.correlators {
		data.ClientCorrelator, data.ServerCorrelator, data.CallObjectRef = c.ClientCorrelator, c.ServerCorrelator, c.CallID
		data.Reason = bareReason(data.Reason)
	} else {
		data.LocationDetails = viewLocation(c.Location)
	}
	return data
}

// header is everything that the sink is to get beside the body. What the
// subscription asked for cannot replace what the gateway sets.
func (r Renderer) header(sub call.Subscription, e call.Event) http.Header {
	h := http.Header{}
	for k, v := range sub.Sink.Headers {
		h.Set(k, v)
	}
	h.Set("Content-Type", "application/cloudevents+json")
	h.Set(correlatorHeader, e.ID)
	h.Del("Authorization")
	if sub.Sink.AccessToken != "" {
		h.Set("Authorization", "Bearer "+sub.Sink.AccessToken)
	}
	return h
}

func bounded(s string) string {
	if len(s) <= maxText {
		return s
	}
	if r := []rune(s); len(r) > maxText {
		return string(r[:maxText-1]) + "…"
	}
	return s
}
