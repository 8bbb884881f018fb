package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Register binds a device to a number. With a subscriber's token the number is
// the token's; an application's own token must name one that it may act for.
// Where the network wants a REGISTER, that comes first.
func (g *Gateway) Register(ctx context.Context, p Principal, r RegisterRequest) (call.Registration, error) {
	owner, err := g.registrant(p, r.Number)
	if err != nil {
		return call.Registration{}, err
	}
	now := g.now()
	expires, err := g.config.Registrations.lifetimes().Expiry(now, r.Expires, r.Below)
	if err != nil {
		return call.Registration{}, err
	}
	previous, err := g.deviceRegistration(ctx, owner, r.DeviceID, now)
	if err != nil {
		return call.Registration{}, err
	}
	if previous != nil && !r.Replace {
		return call.Registration{}, alreadyRegistered()
	}
	reg := call.Registration{ID: newID(), Owner: owner, DeviceID: r.DeviceID, CreatedAt: now, ExpiresAt: expires}
	if err := g.checkLimits(ctx, g.store, reg); err != nil {
		return call.Registration{}, err
	}
	// First the new binding, then the end of the old one: the number is never
	// without, and a registrar that refuses takes nothing away.
	if err := g.network.Register(ctx, Account{RegistrationID: reg.ID, Tenant: owner.Tenant, Number: reg.Number()}); err != nil {
		return call.Registration{}, networkError(err)
	}
	if err := g.insertRegistration(ctx, reg, r.Replace); err != nil {
		g.deregister(reg.ID)
		return call.Registration{}, err
	}
	g.wake()
	g.log.Info("registered", "registration", reg.ID, "number", reg.Number(), "device", reg.DeviceID, "client", owner.ClientID, "expires", reg.ExpiresAt)
	return reg, nil
}

// insertRegistration stores a registration. One of the same device and number is
// in its way: that ends when it has expired and was not cleared yet, or is to be
// replaced.
func (g *Gateway) insertRegistration(ctx context.Context, reg call.Registration, replace bool) error {
	for range 3 {
		err := g.store.Update(ctx, func(tx Tx) error {
			if err := tx.LockOwner(ctx, call.Owner{Tenant: reg.Owner.Tenant, Subject: reg.Number()}); err != nil {
				return err
			}
			if err := g.checkLimits(ctx, tx, reg); err != nil {
				return err
			}
			return tx.InsertRegistration(ctx, reg)
		})
		if !errors.Is(err, ErrConflict) {
			return err
		}
		if err := g.endDue(ctx); err != nil {
			return err
		}
		previous, err := g.deviceRegistration(ctx, reg.Owner, reg.DeviceID, g.now())
		switch {
		case err != nil:
			return err
		case previous == nil:
			continue
		case !replace:
			return alreadyRegistered()
		}
		err = g.endRegistration(ctx, *previous, call.NetworkTerminated, "The device has registered again.")
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return alreadyRegistered()
}

func alreadyRegistered() error {
	return call.Errorf(call.AlreadyExists, "this device has a registration for this phone number; refresh or delete that one")
}

// registrant is the owner of a registration made with p.
func (g *Gateway) registrant(p Principal, number call.Number) (call.Owner, error) {
	owner := p.Owner
	switch {
	case !p.TwoLegged() && number != "":
		return owner, call.Errorf(call.UnnecessaryIdentifier, "phoneNumber must not be given: the access token already names the subscriber")
	case p.TwoLegged() && number == "":
		return owner, call.Errorf(call.MissingIdentifier, "phoneNumber must be given: the access token names no subscriber")
	case p.TwoLegged():
		if !g.config.mayRegister(owner.ClientID, number) || !g.config.serves(number) {
			return owner, call.Errorf(call.PermissionDenied, "this application may not register this phone number")
		}
		owner.Subject = number
	case !g.config.serves(owner.Subject):
		return owner, call.Errorf(call.PermissionDenied, "the subscriber's number is not served here")
	}
	if hasPrefix(owner.Subject, g.config.AddressMissing) {
		return owner, call.Errorf(call.EmergencyAddressMissing, "the operator has no emergency address for this phone number, and needs one")
	}
	return owner, nil
}

// deviceRegistration finds the registration of (number, device), whoever made it.
func (g *Gateway) deviceRegistration(ctx context.Context, owner call.Owner, device string, now time.Time) (*call.Registration, error) {
	all, err := g.store.RegistrationsByNumber(ctx, owner.Tenant, owner.Subject, now)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.DeviceID == device {
			return &r, nil
		}
	}
	return nil, nil
}

// checkLimits refuses one registration too many. Those of the same device and
// number, which reg cannot be beside, do not count.
func (g *Gateway) checkLimits(ctx context.Context, from Reader, reg call.Registration) error {
	all, err := from.RegistrationsByNumber(ctx, reg.Owner.Tenant, reg.Number(), reg.CreatedAt)
	if err != nil {
		return err
	}
	byUser := 0
	devices := map[string]bool{reg.DeviceID: true}
	count := 0
	for _, r := range all {
		if r.DeviceID == reg.DeviceID {
			continue
		}
		count++
		if r.Owner == reg.Owner {
			byUser++
			devices[r.DeviceID] = true
		}
	}
	limits := g.config.Limits
	switch {
	case count >= limits.RegistrationsPerNumber:
		return call.Errorf(call.MaxRegistrationsPerMSISDN, "the phone number already has %d registrations, which is the limit", count)
	case byUser >= limits.RegistrationsPerUser:
		return call.Errorf(call.MaxRegistrationsPerUser, "the user already has %d registrations, which is the limit", byUser)
	case len(devices) > limits.DevicesPerUser:
		return call.Errorf(call.MaxDevicesPerUser, "the user already has %d devices, which is the limit", len(devices)-1)
	}
	return nil
}

// Registration answers a live registration that p may see.
func (g *Gateway) Registration(ctx context.Context, p Principal, id string) (call.Registration, error) {
	r, err := g.store.Registration(ctx, p.Owner.Tenant, id)
	if errors.Is(err, ErrNotFound) || err == nil && (!p.Owner.MayUse(r.Owner) || r.Expired(g.now())) {
		return call.Registration{}, call.Errorf(call.NotFound, "there is no such registration")
	}
	return r, err
}

// Registrations lists a device's live registrations that p may see.
func (g *Gateway) Registrations(ctx context.Context, p Principal, deviceID string) ([]call.Registration, error) {
	return g.store.RegistrationsByDevice(ctx, p.Owner, deviceID, g.now())
}

// Refresh gives a registration a new end, counted from now.
func (g *Gateway) Refresh(ctx context.Context, p Principal, id string, r RefreshRequest) (call.Registration, error) {
	if _, err := g.Registration(ctx, p, id); err != nil {
		return call.Registration{}, err
	}
	now := g.now()
	expires, err := g.config.Registrations.lifetimes().Expiry(now, r.Expires, r.Below)
	if err != nil {
		return call.Registration{}, err
	}
	var reg call.Registration
	err = g.store.Update(ctx, func(tx Tx) (err error) {
		if reg, err = tx.Registration(ctx, p.Owner.Tenant, id); err != nil {
			return err
		}
		reg.ExpiresAt = expires
		return tx.UpdateRegistration(ctx, reg)
	})
	if errors.Is(err, ErrNotFound) {
		err = call.Errorf(call.NotFound, "there is no such registration")
	}
	g.wake()
	return reg, err
}

// Deregister ends a registration and its calls. The device asked for it, so there
// is no registration-ends event; its calls tell of their own end.
func (g *Gateway) Deregister(ctx context.Context, p Principal, id string) error {
	r, err := g.Registration(ctx, p, id)
	if err != nil {
		return err
	}
	g.endSessionsOf(ctx, r.ID)
	if err = g.removeRegistration(ctx, r, nil); errors.Is(err, ErrNotFound) {
		return call.Errorf(call.NotFound, "there is no such registration")
	}
	// A call that came in between.
	g.endSessionsOf(ctx, r.ID)
	return err
}

// endRegistration ends a registration that its device did not give up. The error
// wraps ErrNotFound when it has ended already.
func (g *Gateway) endRegistration(ctx context.Context, r call.Registration, reason call.EndReason, description string) error {
	if reason != call.RegistrationExpired || !g.config.CallsOutlive {
		g.endSessionsOf(ctx, r.ID)
	}
	return g.removeRegistration(ctx, r, &call.RegistrationEnd{RegistrationID: r.ID, Reason: reason, Description: description})
}

// removeRegistration deletes a registration with what hangs on it, and tells of
// the end when there is one to tell.
func (g *Gateway) removeRegistration(ctx context.Context, r call.Registration, end *call.RegistrationEnd) error {
	err := g.store.Update(ctx, func(tx Tx) error {
		current, err := tx.Registration(ctx, r.Owner.Tenant, r.ID)
		if err != nil {
			return err
		}
		if end != nil && end.Reason == call.RegistrationExpired && !current.Expired(g.now()) {
			// Refreshed in the meantime.
			return ErrConflict
		}
		if end != nil {
			if err := g.recordEnd(ctx, tx, r, end); err != nil {
				return err
			}
		}
		bound, err := tx.SubscriptionsByRegistration(ctx, r.ID)
		if err != nil {
			return err
		}
		for _, s := range bound {
			if err := g.endSubscription(ctx, tx, s, call.NetworkTerminated, "The registration that the subscription belongs to has ended.", false); err != nil {
				return err
			}
		}
		return tx.DeleteRegistration(ctx, r.Owner.Tenant, r.ID)
	})
	switch {
	case errors.Is(err, ErrConflict):
		return nil
	case err != nil:
		return err
	}
	if end != nil {
		g.metrics.ends.WithLabelValues(string(end.Reason)).Inc()
	}
	g.deregister(r.ID)
	g.log.Info("registration ended", "registration", r.ID, "device", r.DeviceID)
	return nil
}

// deregister takes the number's binding back from the network, which may take
// its time.
func (g *Gateway) deregister(registrationID string) {
	g.later(40*time.Second, func(ctx context.Context) {
		if err := g.network.Deregister(ctx, registrationID); err != nil {
			g.log.Warn("de-register from the SIP network", "registration", registrationID, "error", err)
		}
	})
}

// BindingLost ends a registration that the network does not know any more.
func (g *Gateway) BindingLost(ctx context.Context, a Account, description string) {
	r, err := g.store.Registration(ctx, a.Tenant, a.RegistrationID)
	if err == nil {
		err = g.endRegistration(ctx, r, call.NetworkTerminated, description)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		g.log.Error("end a registration whose SIP binding was lost", "registration", a.RegistrationID, "error", err)
	}
}
