package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"
)

// event is a CloudEvent of the gateway.
type event struct {
	ID     string `json:"id"`
	Source string `json:"source"`
	Type   string `json:"type"`
	Data   struct {
		session
		Reason            string `json:"reason"`
		TerminationReason string `json:"terminationReason"`
	} `json:"data"`
}

// kind is the last part of the type, session-status for instance.
func (e event) kind() string { return e.Type[strings.LastIndexByte(e.Type, '.')+1:] }

// session is a media session, in answers and in events.
type session struct {
	ID         string       `json:"mediaSessionId,omitempty"`
	Originator string       `json:"originatorAddress,omitempty"`
	Receiver   string       `json:"receiverAddress,omitempty"`
	Status     string       `json:"status,omitempty"`
	Offer      *description `json:"offer,omitempty"`
	Answer     *description `json:"answer,omitempty"`
}

type description struct {
	SDP string `json:"sdp"`
}

// line is a registered line: what it takes to make and to get calls.
type line struct {
	api          *api
	events       <-chan event
	registration registration
}

// call is a call of the line, and the phone that speaks in it.
type call struct {
	*line
	*phone
	id string
}

// eventWithin bounds the wait for an event.
const eventWithin = 30 * time.Second

// originate calls an address and answers when the far end has answered.
func (l *line) originate(ctx context.Context, to string) (*call, error) {
	p, err := newPhone()
	if err != nil {
		return nil, err
	}
	c := &call{line: l, phone: p}
	offer, err := p.offer()
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	var s session
	err = l.api.do(ctx, "POST", calls, session{
		Originator: "tel:" + l.registration.Info.Number, Receiver: to, Offer: &description{offer},
	}, &s, "registrationId", l.registration.ID)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	c.id = s.ID
	if err := c.await(ctx, "Connected"); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return c, nil
}

// invited waits for a call, rings and answers it.
func (l *line) invited(ctx context.Context) (*call, error) {
	e, err := l.next(ctx, func(e event) bool { return e.kind() == "session-invitation" })
	if err != nil {
		return nil, err
	}
	if e.Data.Offer == nil {
		return nil, errors.New("the invitation has no offer")
	}
	p, err := newPhone()
	if err != nil {
		return nil, err
	}
	c := &call{line: l, phone: p, id: e.Data.ID}
	answer, err := p.answer(e.Data.Offer.SDP)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	// With the answer this early, ICE and DTLS are done before the user is.
	err = c.put(ctx, session{Status: "Ringing", Answer: &description{answer}})
	if err == nil {
		err = c.put(ctx, session{Status: "Connected"})
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return c, nil
}

// put changes the status of the call.
func (c *call) put(ctx context.Context, change session) error {
	var s session
	if err := c.api.do(ctx, "PUT", calls+"/"+c.id+"/status", change, &s); err != nil {
		return err
	}
	if s.Status != change.Status {
		return fmt.Errorf("the call is %s and not %s", s.Status, change.Status)
	}
	return nil
}

// hangUp ends the call, and waits for the event that says so.
func (c *call) hangUp(ctx context.Context) error {
	err := c.api.do(ctx, "DELETE", calls+"/"+c.id, nil, nil)
	if err == nil {
		err = c.await(ctx, "Terminated")
	}
	return errors.Join(err, c.close())
}

// await waits until the call has a status. An answer may come before, so that
// the caller hears what the network plays while it rings.
func (c *call) await(ctx context.Context, status string) error {
	for {
		e, err := c.next(ctx, func(e event) bool { return e.kind() == "session-status" && e.Data.ID == c.id })
		if err != nil {
			return fmt.Errorf("wait for %s: %w", status, err)
		}
		if e.Data.Answer != nil {
			if err := c.accept(e.Data.Answer.SDP); err != nil {
				return err
			}
		}
		switch e.Data.Status {
		case status:
			return nil
		case "Terminated", "SessionCancelled", "Declined", "Failed", "NoAnswer", "NotReachable", "Busy":
			return fmt.Errorf("the call is over, %s: %s", e.Data.Status, e.Data.Reason)
		}
	}
}

// next answers the next event that fits and passes over all others.
func (l *line) next(ctx context.Context, fits func(event) bool) (event, error) {
	ctx, cancel := context.WithTimeout(ctx, eventWithin)
	defer cancel()
	for {
		select {
		case e := <-l.events:
			log.Printf("event %s %s %s", e.kind(), e.Data.Status, e.Data.Reason+e.Data.TerminationReason)
			if fits(e) {
				return e, nil
			}
		case <-ctx.Done():
			return event{}, fmt.Errorf("no event: %w", ctx.Err())
		}
	}
}
