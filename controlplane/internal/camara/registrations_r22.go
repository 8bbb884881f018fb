package camara

import (
	"context"
	"net/http"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// registrationsR22 is the registration API 0.3: the number comes from the token
// only, the same device and number again replaces the registration, and an end
// outside of the bounds gives way to the usual one.
type registrationsR22 struct{ gateway Gateway }

func (r registrationsR22) bindings() map[string]binding {
	return map[string]binding{
		"createSession": {handle: r.create},
		"updateSession": {handle: r.update},
		"deleteSession": {handle: r.remove},
	}
}

func (r registrationsR22) create(ctx context.Context, x *exchange) (answer, error) {
	expires, err := x.body.time("registrationExpireTime")
	if err != nil {
		return answer{}, err
	}
	if x.principal.TwoLegged() {
		return answer{}, refuse(call.InvalidTokenContext, "The access token is bound to no subscriber, so there is no number to register.")
	}
	registration, err := r.gateway.Register(ctx, x.principal, gateway.RegisterRequest{
		DeviceID: foldUUID(x.body.text("deviceId")),
		Expires:  expires,
		Below:    call.DefaultOutside,
		Replace:  true,
	})
	if err != nil {
		return answer{}, err
	}
	x.number, x.registration = registration.Number(), registration.ID
	return answer{http.StatusOK, viewRegistration(registration)}, nil
}

func (r registrationsR22) update(ctx context.Context, x *exchange) (answer, error) {
	return refresh(ctx, x, r.gateway, call.DefaultOutside)
}

func (r registrationsR22) remove(ctx context.Context, x *exchange) (answer, error) {
	return deregister(ctx, x, r.gateway)
}
