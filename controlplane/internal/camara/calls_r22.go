package camara

import (
	"context"
	"net/http"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// callsR22 is the call-handling API 0.3, in which one schema serves every request
// and answer and almost nothing is mandatory.
type callsR22 struct {
	gateway Gateway
	// home domain of addresses that the schema cannot express.
	home string
}

func (c callsR22) bindings() map[string]binding {
	return map[string]binding{
		"createSession":       {handle: c.create},
		"getSession":          {handle: c.get},
		"updateSessionStatus": {handle: c.update, prepare: unwrapStatus},
		"deleteSession":       {handle: c.remove},
	}
}

// sessionViewR22 is MediaSessionInformation.
type sessionViewR22 struct {
	MediaSessionID    string       `json:"mediaSessionId"`
	ClientCorrelator  string       `json:"clientCorrelator,omitempty"`
	ServerCorrelator  string       `json:"serverCorrelator,omitempty"`
	CallObjectRef     string       `json:"callObjectRef,omitempty"`
	OriginatorAddress string       `json:"originatorAddress"`
	OriginatorName    string       `json:"originatorName,omitempty"`
	ReceiverAddress   string       `json:"receiverAddress"`
	ReceiverName      string       `json:"receiverName,omitempty"`
	Status            call.Status  `json:"status"`
	Offer             *description `json:"offer,omitempty"`
	Answer            *description `json:"answer,omitempty"`
	OfferRequired     bool         `json:"offerRequired,omitempty"`
	Reason            string       `json:"reason,omitempty"`
}

func (c callsR22) view(m call.MediaSession) sessionViewR22 {
	return sessionViewR22{
		MediaSessionID:    m.ID,
		ClientCorrelator:  m.ClientCorrelator,
		ServerCorrelator:  m.ServerCorrelator,
		CallObjectRef:     m.CallID,
		OriginatorAddress: narrowAddress(m.Originator, c.home),
		OriginatorName:    m.OriginatorName,
		ReceiverAddress:   narrowAddress(m.Receiver, c.home),
		ReceiverName:      m.ReceiverName,
		Status:            m.Status,
		Offer:             describe(m.Offer),
		Answer:            describe(m.Answer),
		OfferRequired:     m.Direction == call.Origination && m.Offer == "" && !m.Status.Final(),
		Reason:            bareReason(m.Reason),
	}
}

// bareReason writes "SIP 486 Busy Here" as r2.2 does, "486 Busy Here".
func bareReason(reason string) string { return strings.TrimPrefix(reason, "SIP ") }

func (c callsR22) create(ctx context.Context, x *exchange) (answer, error) {
	if x.body.has("answer") {
		return answer{}, refuse(call.InvalidArgument, "answer cannot be part of a new call.")
	}
	originator, err := c.address(x.body, "originatorAddress")
	if err != nil {
		return answer{}, err
	}
	receiver, err := c.address(x.body, "receiverAddress")
	if err != nil {
		return answer{}, err
	}
	request, err := parties(x, originator, receiver)
	if err != nil {
		return answer{}, err
	}
	if request.Offer, err = optionalSDP(x.body, "offer"); err != nil {
		return answer{}, err
	}
	request.CallType = call.Regular
	request.LateOffer = request.Offer == ""
	request.ClientCorrelator = x.body.text("clientCorrelator")
	session, err := c.gateway.Originate(ctx, x.principal, request)
	if err != nil {
		return answer{}, err
	}
	x.about(session)
	return answer{http.StatusCreated, c.view(session)}, nil
}

// address of the narrow form. It allows numbers that E.164 does not, beginning
// with 0; they become users of the home domain.
func (c callsR22) address(o object, key string) (call.Address, error) {
	if user, ok := strings.CutPrefix(o.text(key), "tel:+0"); ok {
		return object{key: "sip:+0" + user + "@" + c.home}.address(key)
	}
	return o.address(key)
}

// optionalSDP treats a description without text as none.
func optionalSDP(o object, key string) (string, error) {
	if o.object(key).text("sdp") == "" {
		return "", nil
	}
	return o.sdp(key)
}

func (c callsR22) get(ctx context.Context, x *exchange) (answer, error) {
	session, err := c.gateway.Session(ctx, x.principal, x.id)
	if err != nil {
		return answer{}, err
	}
	x.about(session)
	return answer{http.StatusOK, c.view(session)}, nil
}

// unwrapStatus takes the object out of the wrapper that published examples have.
func unwrapStatus(_ *exchange, body object) *failure {
	if len(body) != 1 {
		return nil
	}
	for _, name := range []string{"receiverSessionStatus", "ReceiverSessionStatus"} {
		inner, ok := body[name].(map[string]any)
		if !ok {
			continue
		}
		delete(body, name)
		for k, v := range inner {
			body[k] = v
		}
		return nil
	}
	return nil
}

func (c callsR22) update(ctx context.Context, x *exchange) (answer, error) {
	request := gateway.StatusRequest{Status: call.Status(x.body.text("status"))}
	var err error
	if request.Offer, err = optionalSDP(x.body, "offer"); err != nil {
		return answer{}, err
	}
	if request.Answer, err = optionalSDP(x.body, "answer"); err != nil {
		return answer{}, err
	}
	if request == (gateway.StatusRequest{}) {
		return c.get(ctx, x)
	}
	session, err := c.gateway.UpdateSession(ctx, x.principal, x.id, request)
	if err != nil {
		return answer{}, err
	}
	x.about(session)
	return answer{http.StatusOK, c.view(session)}, nil
}

func (c callsR22) remove(ctx context.Context, x *exchange) (answer, error) {
	return hangUp(ctx, x, c.gateway)
}
