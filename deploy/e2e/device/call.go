package device

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Call is a call of a device, seen by it.
type Call struct {
	*peer
	t      testing.TB
	device *Device
	ID     string
	// offered is the gateway's offer of an incoming call.
	offered string
	// accepted: the gateway's answer to an outgoing call was taken up.
	accepted bool
}

// Call calls an address, tel:+15550100 for instance; hz is what the device says.
func (d *Device) Call(to string, hz float64) *Call {
	d.t.Helper()
	c, err := d.TryCall(to, hz)
	if err != nil {
		d.t.Fatalf("call of %s to %s: %v", d.config.Number, to, err)
	}
	return c
}

// TryCall is Call, but for failures of the request.
func (d *Device) TryCall(to string, hz float64) (*Call, error) {
	d.t.Helper()
	return d.CallAs("tel:"+d.config.Number, to, hz)
}

// Anonymous is the originator of calls that withhold their number.
const Anonymous = "sip:anonymous@anonymous.invalid"

// CallAs is TryCall with another address of the caller's than its number.
func (d *Device) CallAs(from, to string, hz float64) (*Call, error) {
	d.t.Helper()
	c := &Call{peer: newPeer(d.t, d.config.Number, hz), t: d.t, device: d}
	offer := c.offer()
	var s Session
	err := d.Do("POST", Calls, map[string]string{"registrationId": d.RegistrationID}, map[string]any{
		"originatorAddress": from, "receiverAddress": to, "offer": Description{offer},
	}, &s)
	if err != nil {
		return nil, err
	}
	c.ID = s.ID
	if s.Status != "Initial" {
		return nil, fmt.Errorf("the new session has status %q", s.Status)
	}
	if s.Offer == nil || s.Offer.SDP != offer {
		return nil, fmt.Errorf("the new session does not have the offer that was made")
	}
	return c, nil
}

// AwaitInvitation waits for a call from a number and makes media ready: the
// invitation is answered with InProgress, and then Ringing.
func (d *Device) AwaitInvitation(within time.Duration, hz float64, match func(Session) bool) *Call {
	d.t.Helper()
	c, _ := d.AwaitOffer(within, hz, match)
	c.Prepare()
	c.Put("Ringing", nil)
	return c
}

// AwaitOffer waits for a call from a number and does nothing yet. It also answers
// the session as the invitation has it.
func (d *Device) AwaitOffer(within time.Duration, hz float64, match func(Session) bool) (*Call, Session) {
	d.t.Helper()
	e := d.inbox.await(within, "invitation", func(e Event) bool {
		return e.Kind() == "session-invitation" && (match == nil || match(e.Session))
	})
	if e.Session.Offer == nil {
		d.t.Fatalf("device %s: the invitation has no offer", d.config.Number)
	}
	c := &Call{peer: newPeer(d.t, d.config.Number, hz), t: d.t, device: d, ID: e.Session.ID, offered: e.Session.Offer.SDP}
	return c, e.Session
}

// Prepare answers the offer of an invitation with InProgress, so that the media
// are ready when the user answers.
func (c *Call) Prepare() {
	c.t.Helper()
	c.Put("InProgress", map[string]any{"answer": Description{c.answer(c.offered)}})
}

// Put sets the status of the session.
func (c *Call) Put(status string, more map[string]any) Session {
	c.t.Helper()
	s, err := c.TryPut(status, more)
	if err != nil {
		c.t.Fatalf("%s: %v", c.device.config.Number, err)
	}
	return s
}

// TryPut is Put, but for failures of the request.
func (c *Call) TryPut(status string, more map[string]any) (Session, error) {
	body := map[string]any{"status": status}
	for k, v := range more {
		body[k] = v
	}
	var s Session
	err := c.device.Do("PUT", Calls+"/"+c.ID+"/status", nil, body, &s)
	return s, err
}

// Answer answers an incoming call.
func (c *Call) Answer() {
	c.t.Helper()
	c.Put("Connected", nil)
}

// Get reads the session.
func (c *Call) Get() (Session, error) {
	var s Session
	err := c.device.Do("GET", Calls+"/"+c.ID, nil, nil, &s)
	return s, err
}

// HangUp ends the call, or declines or cancels it.
func (c *Call) HangUp() {
	c.t.Helper()
	if err := c.device.Do("DELETE", Calls+"/"+c.ID, nil, nil, nil); err != nil {
		c.t.Fatalf("%s: %v", c.device.config.Number, err)
	}
}

// Hold puts the far end on hold. The device makes no offer for it: the gateway
// changes the direction by itself.
func (c *Call) Hold() {
	c.t.Helper()
	c.mustBecome("Hold")
}

// Resume ends that.
func (c *Call) Resume() {
	c.t.Helper()
	c.mustBecome("Resume")
}

func (c *Call) mustBecome(status string) {
	c.t.Helper()
	if s := c.Put(status, nil); s.Status != status {
		c.t.Fatalf("%s: PUT %s answers status %q", c.device.config.Number, status, s.Status)
	}
}

// AwaitStatus waits for an event of the session with one of the statuses, and
// takes up the answer in it.
func (c *Call) AwaitStatus(within time.Duration, statuses ...string) Session {
	c.t.Helper()
	e := c.device.inbox.await(within, "status "+strings.Join(statuses, " or "), func(e Event) bool {
		if e.Kind() != "session-status" || e.Session.ID != c.ID {
			return false
		}
		for _, s := range statuses {
			if e.Session.Status == s {
				return true
			}
		}
		return false
	})
	return e.Session
}

// AwaitConnected waits until an outgoing call is answered and its media are up.
func (c *Call) AwaitConnected(within time.Duration) Session {
	c.t.Helper()
	s := c.AwaitStatus(within, "Connected")
	answer := ""
	for _, e := range c.device.Events() {
		if e.Session.ID == c.ID && e.Session.Answer != nil {
			answer = e.Session.Answer.SDP
		}
	}
	if answer == "" {
		c.t.Fatalf("%s: the call is connected without an answer", c.device.config.Number)
	}
	c.TakeAnswer(answer)
	c.AwaitMedia(within)
	return s
}

// TakeAnswer takes up the gateway's answer to the offer that began the call, once.
func (c *Call) TakeAnswer(sdp string) {
	c.t.Helper()
	if !c.accepted {
		c.accepted = true
		c.accept(sdp)
	}
}

// Statuses of the session that were told so far, in their order.
func (c *Call) Statuses() []string {
	var out []string
	for _, e := range c.device.Events() {
		if e.Kind() == "session-status" && e.Session.ID == c.ID {
			out = append(out, e.Session.Status)
		}
	}
	return out
}
