package sip

import (
	"context"
	"fmt"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// MediaPolicy is that of the trunk which would take a call.
func (n *Network) MediaPolicy(ctx context.Context, in gateway.Invite) gateway.MediaPolicy {
	n.learnAccount(ctx, in.Tenant, in.Number)
	trunks := n.set().Route(in.Tenant, in.Number, in.Receiver, in.Emergency || in.Receiver.Kind() == call.EmergencyService)
	if len(trunks) == 0 {
		return gateway.MediaPolicy{}
	}
	return trunks[0].MediaPolicy()
}

// Invite starts a call. See gateway.Network.
func (n *Network) Invite(ctx context.Context, in gateway.Invite) (gateway.Dialog, error) {
	var none gateway.Dialog
	emergency := in.Emergency || in.Receiver.Kind() == call.EmergencyService
	n.learnAccount(ctx, in.Tenant, in.Number)
	trunks := trunk.Alike(n.set().Route(in.Tenant, in.Number, in.Receiver, emergency))
	if len(trunks) == 0 {
		return none, &gateway.RejectedError{Signal: call.Signal{Code: 404, Phrase: "No trunk takes calls to this address", Q850: 3}}
	}
	if in.SDP == "" {
		return none, &gateway.RejectedError{Signal: call.Signal{Code: 488, Phrase: "A call needs an offer"}}
	}
	legs, err := n.legs(ctx, trunks, in, emergency)
	if err != nil {
		return none, err
	}
	c, d, err := n.caller(in, legs, emergency)
	if err != nil {
		return none, err
	}
	cfg := n.machineConfig(c.trunk, len(c.legs))
	cfg.Retarget = func(target int, d *dialog.State, cfg *dialog.Config) {
		l := c.legs[target]
		if l.dialog.Trunk != d.Trunk {
			retarget := cfg.Retarget
			*cfg = n.machineConfig(l.trunk, len(c.legs))
			cfg.Retarget = retarget
		}
		l.dress(d)
	}
	c.m = dialog.NewCaller(cfg, d, in.SDP)
	if err := n.add(c); err != nil {
		c.release()
		return none, fmt.Errorf("%w: %w", gateway.ErrNetworkDown, err)
	}
	c.step(func(m *dialog.Machine) []dialog.Effect { return m.Invite() })
	select {
	case <-c.handed:
		return c.inSetUp(), nil
	default:
	}
	select {
	case <-c.handed:
		return c.inSetUp(), nil
	case <-c.failed:
		return none, fmt.Errorf("%w: %s", gateway.ErrNetworkDown, c.failure.Reason())
	case <-ctx.Done():
	case <-n.ctx.Done():
	}
	// Nobody will hear of this call: it must end without a word.
	gaveUp := false
	c.handedOnce.Do(func() { gaveUp = true })
	if !gaveUp {
		return c.inSetUp(), nil // it left in this very moment
	}
	c.step(func(m *dialog.Machine) []dialog.Effect { return m.End(call.CauseNormal) })
	return none, fmt.Errorf("%w: the INVITE could not be sent in time", gateway.ErrNetworkDown)
}

// caller makes the call of an Invite, on the first trunk that has room for it.
func (n *Network) caller(in gateway.Invite, legs []leg, emergency bool) (*liveCall, dialog.State, error) {
	d := dialog.State{CallID: n.random(24), LocalTag: n.random(12), LocalSeq: uint32(n.rand(1000))}
	var c *liveCall
	for len(legs) > 0 {
		c = n.newCall(in.CallID, d.CallID, d.LocalTag, "", legs[0].trunk, in.Number)
		c.priority, c.legs = emergency, legs
		err := c.count(c.trunk, "out")
		if err == nil {
			legs[0].dress(&d)
			return c, d, nil
		}
		n.log.Info("sip: a trunk is full", "call", in.CallID, "trunk", c.trunk.Name, "error", err)
		full := c.trunk
		for len(legs) > 0 && legs[0].trunk == full {
			legs = legs[1:]
		}
	}
	return nil, d, &gateway.RejectedError{Signal: call.Signal{Code: 503, Phrase: "The trunk has as many calls as it may", Q850: 34}}
}

// Progress sends a provisional response to an incoming call.
func (n *Network) Progress(_ context.Context, callID string, code int, sdp string) error {
	c := n.byID(callID)
	if c == nil {
		return gateway.ErrNoDialog
	}
	return n.wished(c, c.try(func(m *dialog.Machine) ([]dialog.Effect, error) { return m.Progress(code, statusText(code), sdp) }))
}

// CallWaiting marks an incoming call as one that waits.
func (n *Network) CallWaiting(_ context.Context, callID string) error {
	c := n.byID(callID)
	if c == nil {
		return gateway.ErrNoDialog
	}
	c.mu.Lock()
	c.waits = true
	c.mu.Unlock()
	return nil
}

// Accept answers an incoming call.
func (n *Network) Accept(_ context.Context, callID, sdp string) error {
	c := n.byID(callID)
	if c == nil {
		return gateway.ErrNoDialog
	}
	return n.wished(c, c.try(func(m *dialog.Machine) ([]dialog.Effect, error) { return m.Accept(sdp) }))
}

// wished says ErrNoDialog of a call that has ended meanwhile.
func (n *Network) wished(c *liveCall, err error) error {
	if err != nil && n.byID(c.id) == nil {
		return gateway.ErrNoDialog
	}
	return err
}

// Reoffer changes the session. It waits for the outcome or the end of ctx; a
// request that has been sent runs to its end also without its caller.
func (n *Network) Reoffer(ctx context.Context, callID, sdp string) (string, error) {
	var token dialog.Token
	w, c, err := n.wish(callID, func(c *liveCall, t dialog.Token) ([]dialog.Effect, error) {
		token = t
		return c.m.Reoffer(t, sdp)
	})
	if err != nil {
		return "", err
	}
	select {
	case d := <-w:
		return d.Answer, d.Err
	case <-ctx.Done():
		c.step(func(m *dialog.Machine) []dialog.Effect {
			delete(c.waiters, token)
			return m.Forget(token)
		})
		return "", fmt.Errorf("%w: %w", gateway.ErrNetworkTimeout, ctx.Err())
	}
}

// SendDTMF tells a digit by INFO and waits for its answer.
func (n *Network) SendDTMF(ctx context.Context, callID, digit string, durationMs int) error {
	w, _, err := n.wish(callID, func(c *liveCall, t dialog.Token) ([]dialog.Effect, error) {
		return c.m.SendDigit(t, digit, durationMs)
	})
	if err != nil {
		return err
	}
	select {
	case d := <-w:
		return d.Err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", gateway.ErrNetworkTimeout, ctx.Err())
	}
}

func (n *Network) wish(callID string, f func(c *liveCall, t dialog.Token) ([]dialog.Effect, error)) (chan dialog.Done, *liveCall, error) {
	c := n.byID(callID)
	if c == nil {
		return nil, nil, gateway.ErrNoDialog
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	token, w := c.wish()
	effects, err := f(c, token)
	if err != nil {
		delete(c.waiters, token)
		if c.m.Phase() == dialog.Over {
			err = gateway.ErrNoDialog
		}
		return nil, nil, err
	}
	c.run(effects)
	return w, c, nil
}

// End ends a call by what its state asks for.
func (n *Network) End(_ context.Context, callID string, cause call.Cause) error {
	c := n.byID(callID)
	if c == nil {
		return gateway.ErrNoDialog
	}
	c.step(func(m *dialog.Machine) []dialog.Effect {
		if cause == call.CauseDeclined {
			cause.Code = c.trunk.DeclineCode
		}
		return m.End(cause)
	})
	return nil
}

// Restore takes a confirmed dialog over from its stored form. A call that this
// process holds already is left as it is.
func (n *Network) Restore(_ context.Context, callID string, d gateway.Dialog) error {
	_, err := n.restore(callID, d)
	return err
}

func (n *Network) restore(callID string, d gateway.Dialog) (*liveCall, error) {
	if c := n.byID(callID); c != nil {
		return c, nil
	}
	state, err := dialog.ParseState(d.State)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", callID, err)
	}
	c := n.revive(callID, state)
	c.counted = c.trunk
	c.trunk.Adopt()
	if err := n.add(c); err != nil {
		c.release()
		if other := n.byID(callID); other != nil {
			return other, nil
		}
		return nil, err
	}
	c.resume(state)
	return c, nil
}

// revive makes a call of a confirmed dialog that this process does not hold.
func (n *Network) revive(callID string, state dialog.State) *liveCall {
	c := n.newCall(callID, state.CallID, state.LocalTag, "", n.trunkOr(state.Trunk), call.Number(state.Number))
	c.auth.Unmarshal(state.Auth)
	c.handedOver()
	return c
}

// trunkOr is a trunk by name. If its policy is gone, its dialogs are not.
func (n *Network) trunkOr(name string) *trunk.Trunk {
	if t := n.set().ByName(name); t != nil {
		return t
	}
	dflt := trunk.Default()
	dflt.Name = name
	return trunk.NewSet([]trunk.Config{dflt}).All()[0]
}

// resume begins where the dialog stands.
func (c *liveCall) resume(state dialog.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var effects []dialog.Effect
	c.m, effects = dialog.Restore(c.n.machineConfig(c.trunk, 1), state)
	c.run(effects)
}
