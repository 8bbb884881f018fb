package camara

import (
	"context"
	"net/http"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// registrationsR31 is the registration API 0.4.
type registrationsR31 struct{ gateway Gateway }

func (r registrationsR31) bindings() map[string]binding {
	return map[string]binding{
		"createRegistration":         {handle: r.create},
		"getRegistrationsByDeviceId": {handle: r.list},
		"getRegistrationById":        {handle: r.get},
		"updateRegistrationById":     {handle: r.update},
		"deleteRegistrationById":     {handle: r.remove},
	}
}

// registrationView is RegSessionResponse, alike in all generations.
type registrationView struct {
	RegistrationID string  `json:"registrationId"`
	RegInfo        regInfo `json:"regInfo"`
	ExpiresAt      string  `json:"expiresAt"`
}

type regInfo struct {
	PhoneNumber string `json:"phoneNumber"`
	RegStatus   string `json:"regStatus"`
}

func viewRegistration(r call.Registration) registrationView {
	return registrationView{
		RegistrationID: r.ID,
		RegInfo:        regInfo{PhoneNumber: string(r.Number()), RegStatus: "Registered"},
		ExpiresAt:      instant(r.ExpiresAt),
	}
}

func (r registrationsR31) create(ctx context.Context, x *exchange) (answer, error) {
	expires, err := x.body.time("registrationExpireTime")
	if err != nil {
		return answer{}, err
	}
	request := gateway.RegisterRequest{
		DeviceID: foldUUID(x.body.text("deviceId")),
		Expires:  expires,
		Below:    call.RefuseBelow,
	}
	if x.body.has("phoneNumber") {
		if request.Number, err = call.ParseNumber(x.body.text("phoneNumber")); err != nil {
			return answer{}, err
		}
	}
	registration, err := r.gateway.Register(ctx, x.principal, request)
	if err != nil {
		return answer{}, err
	}
	x.number, x.registration = registration.Number(), registration.ID
	return answer{http.StatusCreated, viewRegistration(registration)}, nil
}

// maxRegistrations bounds the answer of list, as its document states.
const maxRegistrations = 10

func (r registrationsR31) list(ctx context.Context, x *exchange) (answer, error) {
	device := foldUUID(x.request.URL.Query().Get("deviceId"))
	registrations, err := r.gateway.Registrations(ctx, x.principal, device)
	if err != nil {
		return answer{}, err
	}
	views := make([]registrationView, 0, len(registrations))
	for _, registration := range registrations[:min(len(registrations), maxRegistrations)] {
		views = append(views, viewRegistration(registration))
	}
	return answer{http.StatusOK, views}, nil
}

func (r registrationsR31) get(ctx context.Context, x *exchange) (answer, error) {
	registration, err := r.gateway.Registration(ctx, x.principal, x.id)
	if err != nil {
		return answer{}, err
	}
	x.number, x.registration = registration.Number(), registration.ID
	return answer{http.StatusOK, viewRegistration(registration)}, nil
}

func (r registrationsR31) update(ctx context.Context, x *exchange) (answer, error) {
	return refresh(ctx, x, r.gateway, call.RefuseBelow)
}

// refresh answers without body a request that has none.
func refresh(ctx context.Context, x *exchange, g Gateway, below call.Below) (answer, error) {
	expires, err := x.body.time("registrationExpireTime")
	if err != nil {
		return answer{}, err
	}
	registration, err := g.Refresh(ctx, x.principal, x.id, gateway.RefreshRequest{Expires: expires, Below: below})
	if err != nil {
		return answer{}, err
	}
	x.number, x.registration = registration.Number(), registration.ID
	if x.body == nil {
		return answer{status: http.StatusNoContent}, nil
	}
	return answer{http.StatusOK, viewRegistration(registration)}, nil
}

func (r registrationsR31) remove(ctx context.Context, x *exchange) (answer, error) {
	return deregister(ctx, x, r.gateway)
}

func deregister(ctx context.Context, x *exchange, g Gateway) (answer, error) {
	if err := g.Deregister(ctx, x.principal, x.id); err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, nil
}
