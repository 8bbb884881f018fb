package camara

import (
	"context"
	"net/http"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// callsR31 is the call-handling API 0.4.
type callsR31 struct{ gateway Gateway }

func (c callsR31) bindings() map[string]binding {
	return map[string]binding{
		"createSession":         {handle: c.create},
		"getSessionDetailsById": {handle: c.get},
		"updateSessionStatus":   {handle: c.update},
		"deleteSessionById":     {handle: c.remove},
	}
}

// description is {"sdp": …}; empty, it says that there is none yet.
type description struct {
	SDP string `json:"sdp,omitempty"`
}

func describe(sdp string) *description {
	if sdp == "" {
		return nil
	}
	return &description{SDP: sdp}
}

// sessionView is MediaSessionResponse.
type sessionView struct {
	MediaSessionID    string        `json:"mediaSessionId"`
	OriginatorAddress string        `json:"originatorAddress"`
	OriginatorName    string        `json:"originatorName,omitempty"`
	ReceiverAddress   string        `json:"receiverAddress"`
	ReceiverName      string        `json:"receiverName,omitempty"`
	Status            call.Status   `json:"status"`
	Offer             description   `json:"offer"`
	Answer            *description  `json:"answer,omitempty"`
	CallType          call.CallType `json:"callType,omitempty"`
	LocationDetails   *locationView `json:"locationDetails,omitempty"`
}

func viewSession(m call.MediaSession) sessionView {
	return sessionView{
		MediaSessionID:    m.ID,
		OriginatorAddress: m.Originator.String(),
		OriginatorName:    m.OriginatorName,
		ReceiverAddress:   m.Receiver.String(),
		ReceiverName:      m.ReceiverName,
		Status:            m.Status,
		Offer:             description{SDP: m.Offer},
		Answer:            describe(m.Answer),
		CallType:          m.CallType,
		LocationDetails:   viewLocation(m.Location),
	}
}

// about notes for log and ladder what the exchange is about.
func (x *exchange) about(m call.MediaSession) {
	x.number, x.callID, x.session, x.registration = m.Owner.Subject, m.CallID, m.ID, m.RegistrationID
}

func (c callsR31) create(ctx context.Context, x *exchange) (answer, error) {
	originator, err := x.body.address("originatorAddress")
	if err != nil {
		return answer{}, err
	}
	receiver, err := x.body.address("receiverAddress")
	if err != nil {
		return answer{}, err
	}
	request, err := parties(x, originator, receiver)
	if err != nil {
		return answer{}, err
	}
	if request.Offer, err = x.body.sdp("offer"); err != nil {
		return answer{}, err
	}
	request.CallType = call.Regular
	if x.body.has("callType") {
		request.CallType = call.CallType(x.body.text("callType"))
	}
	if request.Location, err = parseLocation(x.body.object("locationDetails")); err != nil {
		return answer{}, err
	}
	session, err := c.gateway.Originate(ctx, x.principal, request)
	if err != nil {
		return answer{}, err
	}
	x.about(session)
	return answer{http.StatusCreated, viewSession(session)}, nil
}

// parties reads what every generation has: who calls whom, from where.
func parties(x *exchange, originator, receiver call.Address) (r gateway.OriginateRequest, err error) {
	r.RegistrationID = foldUUID(x.request.Header.Get("registrationId"))
	r.Originator, r.Receiver = originator, receiver
	// Not of the CAMARA document: integrators.md has it.
	switch r.Ringback = gateway.Ringback(x.request.Header.Get("x-ringback")); r.Ringback {
	case "", gateway.RingbackByGateway, gateway.RingbackByNetwork:
	default:
		return r, refuse(call.InvalidArgument, "The x-ringback header must be gateway or network.")
	}
	if r.Receiver.Kind() == call.Anonymous {
		return r, refuse(call.InvalidArgument, "receiverAddress: nobody can be reached at the anonymous address.")
	}
	if r.OriginatorName, err = x.body.line("originatorName"); err != nil {
		return r, err
	}
	r.ReceiverName, err = x.body.line("receiverName")
	return r, err
}

func (c callsR31) get(ctx context.Context, x *exchange) (answer, error) {
	session, err := c.gateway.Session(ctx, x.principal, x.id)
	if err != nil {
		return answer{}, err
	}
	x.about(session)
	return answer{http.StatusOK, viewSession(session)}, nil
}

func (c callsR31) update(ctx context.Context, x *exchange) (answer, error) {
	request, err := statusRequest(x.body)
	if err != nil {
		return answer{}, err
	}
	if request.Location, err = parseLocation(x.body.object("locationDetails")); err != nil {
		return answer{}, err
	}
	session, err := c.gateway.UpdateSession(ctx, x.principal, x.id, request)
	if err != nil {
		return answer{}, err
	}
	x.about(session)
	return answer{http.StatusOK, viewSession(session)}, nil
}

func statusRequest(body object) (r gateway.StatusRequest, err error) {
	r.Status = call.Status(body.text("status"))
	if r.Offer, err = body.sdp("offer"); err != nil {
		return r, err
	}
	r.Answer, err = body.sdp("answer")
	return r, err
}

func (c callsR31) remove(ctx context.Context, x *exchange) (answer, error) {
	return hangUp(ctx, x, c.gateway)
}

func hangUp(ctx context.Context, x *exchange, g Gateway) (answer, error) {
	if err := g.EndSession(ctx, x.principal, x.id); err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, nil
}
