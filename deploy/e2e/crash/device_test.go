package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/loadtest/telco"
)

// Numbers of the far end: those that are called, and those that call.
const (
	called  = "+1777"
	callers = "+1888"
)

// patience of a device with what may take a restart.
const patience = 12 * time.Second

// user is an application on one device.
type user struct {
	*site
	t      testing.TB
	random *rand.Rand
	device *device.Device
	number string
	acts   int
}

// site is what all users share.
type site struct {
	ledger  *ledger
	sink    *sink
	network *telco.Network
	api     string
	// next makes numbers of the far end.
	next atomic.Int64
	// stop is done when no more is to be begun.
	stop context.Context
}

func (s *site) fresh(prefix string) string { return fmt.Sprintf("%s%07d", prefix, s.next.Add(1)) }

// answered reports whether err is an answer of the API, not a broken connection.
// 503 is what a gateway says that is about to end or has just begun.
func answered(err error) bool {
	var f *device.Failure
	return errors.As(err, &f) && f.Status != 503
}

// insist repeats a request until it has an answer.
func (u *user) insist(method, path string, header map[string]string, in, out any) error {
	giveUp := time.NewTimer(patience)
	defer giveUp.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := u.device.Do(method, path, header, in, out)
		if err == nil || answered(err) {
			return err
		}
		select {
		case <-again.C:
		case <-giveUp.C:
			return err
		}
	}
}

// subscribe makes a subscription and answers its id and what comes for it.
func (u *user) subscribe(first bool, limit int) (string, *queue, error) {
	path := uuid.NewString()
	q := u.ledger.subscribes(path, first, limit)
	config := map[string]any{
		"subscriptionDetail":     map[string]any{"deviceId": u.device.ID},
		"subscriptionExpireTime": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
	}
	if limit > 0 {
		config["subscriptionMaxEvents"] = limit
	}
	var answer struct {
		ID string `json:"id"`
	}
	const prefix = "org.camaraproject.webrtc-events-subscriptions.v0."
	body := map[string]any{"protocol": "HTTP", "sink": u.sink.URL + "/" + path, "types": []string{prefix + "session-status", prefix + "session-invitation"}, "config": config}
	u.ledger.pulse("subscribe")
	return answer.ID, q, u.device.Do("POST", device.Subscriptions, nil, body, &answer)
}

// play does one thing after the other.
func (u *user) play() {
	for u.stop.Err() == nil {
		u.acts++
		switch n := u.random.IntN(20); {
		case n < 9:
			u.call()
		case n < 15:
			u.takeCall()
		case n < 18:
			u.subscribeAgain()
		default:
			u.registerAgain()
		}
	}
}

// pause waits for a random while.
func (u *user) pause(most time.Duration, done <-chan struct{}) {
	timer := time.NewTimer(time.Duration(u.random.Int64N(int64(most))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-done:
	}
}

// script is what the far end of a call does.
type script struct {
	rings, rejects bool
	// keepsRinging: it never answers.
	keepsRinging bool
	answersAfter time.Duration
	hangsUpAfter time.Duration // 0: never
}

func (u *user) script() script {
	s := script{
		rings: u.random.IntN(4) > 0, rejects: u.random.IntN(6) == 0,
		answersAfter: time.Duration(u.random.IntN(60)) * time.Millisecond,
	}
	s.keepsRinging = s.rings && u.random.IntN(6) == 0
	if u.random.IntN(2) == 0 {
		s.hangsUpAfter = time.Duration(20+u.random.IntN(300)) * time.Millisecond
	}
	return s
}

// answer plays a script as the called number.
func (a *act) answer(s script) func(context.Context, *telco.Call) {
	wait := func(ctx context.Context, d time.Duration) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return true
		case <-a.done:
		case <-ctx.Done():
		}
		return false
	}
	return func(ctx context.Context, c *telco.Call) {
		if s.rings {
			a.tries("Ringing")
			if c.Ring() != nil {
				return
			}
		}
		if s.keepsRinging {
			wait(ctx, patience)
			a.mustEnd(ctx.Done())
			a.tries("NotReachable", "NoAnswer")
			return
		}
		if !wait(ctx, s.answersAfter) {
			// Its caller has gone: the network refuses with 480 what it has not answered.
			a.tries("NotReachable", "NoAnswer")
			return
		}
		if s.rejects {
			a.tries("Busy")
			c.Reject(486, 17)
			return
		}
		a.tries("Connected")
		if c.Answer() != nil {
			return
		}
		if s.hangsUpAfter > 0 {
			wait(ctx, s.hangsUpAfter)
		} else {
			wait(ctx, patience)
		}
		a.mustEnd(ctx.Done())
		// The network hangs up when this returns.
		a.tries("Terminated")
	}
}

// mustEnd waits for the gateway to end a call at the far end when it has told its
// device that the call is over; it returns at once while it has not.
func (a *act) mustEnd(ended <-chan struct{}) {
	giveUp := time.NewTimer(patience)
	defer giveUp.Stop()
	for {
		goesOn, changed := a.goesOn()
		if goesOn {
			return
		}
		select {
		case <-ended:
			return
		case <-changed:
		case <-giveUp.C:
			a.mu.Lock()
			defer a.mu.Unlock()
			a.problem("the far end of the call with %s is still in it, though its session is over", a.far)
			return
		}
	}
}

// call calls a number.
func (u *user) call() {
	far := u.fresh(called)
	a := u.ledger.begin(far)
	defer close(a.done)
	plays := u.script()
	if err := u.network.Handle(far, a.answer(plays)); err != nil {
		u.t.Error(err)
		return
	}
	var s device.Session
	u.ledger.pulse("call")
	err := u.device.Do("POST", device.Calls, map[string]string{"registrationId": u.device.RegistrationID}, map[string]any{
		"originatorAddress": "tel:" + u.number, "receiverAddress": "tel:" + far, "offer": device.Description{SDP: device.SilentOffer()},
	}, &s)
	switch {
	case err == nil:
		a.took("Initial", s.ID)
	case answered(err):
		u.t.Errorf("call %s: %v", far, err)
		return
	default:
		// It may have begun all the same; the far end leaves it soon.
		a.tries("SessionCancelled", "Terminated")
		u.pause(300*time.Millisecond, nil)
		return
	}
	switch {
	case plays.keepsRinging:
		// Most are ringing still when the gateway is killed.
		if _, over := u.awaitFor(a, s.ID, 2*time.Second); !over {
			u.hangUp(a, s.ID)
		}
		return
	case u.random.IntN(6) == 0:
		u.pause(80*time.Millisecond, nil)
		u.hangUp(a, s.ID)
		return
	}
	u.converse(a, s.ID)
}

// await waits until a session is answered or over.
func (u *user) await(a *act, id string) (answered, over bool) { return u.awaitFor(a, id, patience) }

func (u *user) awaitFor(a *act, id string, most time.Duration) (answered, over bool) {
	giveUp := time.NewTimer(most)
	defer giveUp.Stop()
	for {
		_, answered, over, changed := a.state(id)
		if answered || over {
			return answered, over
		}
		select {
		case <-changed:
		case <-giveUp.C:
			return false, false
		}
	}
}

// converse waits for the answer, holds the call perhaps, and ends it.
func (u *user) converse(a *act, id string) {
	if connected, over := u.await(a, id); over || !connected {
		return
	}
	for u.random.IntN(2) == 0 {
		for _, status := range []string{"Hold", "Resume"} {
			a.tries(status)
			err := u.insist("PUT", device.Calls+"/"+id+"/status", nil, map[string]any{"status": status}, nil)
			if err != nil {
				break // it may have ended, or another change is still under way
			}
			a.took(status, id)
			u.pause(40*time.Millisecond, nil)
		}
	}
	u.pause(200*time.Millisecond, nil)
	u.goesOn(a, id)
	u.hangUp(a, id)
	u.overSoon(a, id)
}

// goesOn holds what the API shows against what nobody has ended.
func (u *user) goesOn(a *act, id string) {
	var s device.Session
	err := u.insist("GET", device.Calls+"/"+id, nil, nil, &s)
	a.mu.Lock()
	ended := a.may["Terminated"]
	a.mu.Unlock()
	if err == nil && !ended && s.Status != "Connected" && s.Status != "Hold" || err != nil && !ended {
		u.t.Errorf("session %s with %s was answered and nobody hung up, but it is %s (%s), %v", id, a.far, s.Status, s.Reason, err)
	}
}

func (u *user) hangUp(a *act, id string) {
	a.tries("SessionCancelled", "Terminated", "Declined")
	err := u.insist("DELETE", device.Calls+"/"+id, nil, nil, nil)
	if err == nil || device.FailedWith(err, 404) {
		a.took("DELETE", id)
		return
	}
	u.t.Errorf("hang up session %s with %s: %v", id, a.far, err)
}

// overSoon waits for the end, so that the next act begins with a free device.
func (u *user) overSoon(a *act, id string) {
	giveUp := time.NewTimer(patience)
	defer giveUp.Stop()
	for {
		_, _, over, changed := a.state(id)
		if over {
			return
		}
		select {
		case <-changed:
		case <-giveUp.C:
			return
		}
	}
}

// takeCall is called and answers, declines, or is too late.
func (u *user) takeCall() {
	far := u.fresh(callers)
	a := u.ledger.begin(far)
	defer close(a.done)
	ends := u.script().hangsUpAfter
	u.ledger.pulse("incoming")
	c, err := u.network.Call(context.Background(), telco.CallRequest{
		From: far, To: u.number, Ring: patience,
		Talk: func(ctx context.Context, _ *telco.Call) {
			var after <-chan time.Time
			if ends > 0 {
				timer := time.NewTimer(ends)
				defer timer.Stop()
				after = timer.C
			}
			select {
			case <-after:
			case <-a.done:
			case <-ctx.Done():
			}
			a.tries("Terminated") // the network hangs up
		},
	})
	if err != nil {
		u.t.Error(err)
		return
	}
	leave := func() {
		if a.invited() {
			a.mustEnd(c.Ended())
		}
		a.tries("SessionCancelled", "Terminated")
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c.HangUp(ctx)
	}
	defer leave()
	id := ""
	for waiting := time.After(4 * time.Second); id == ""; {
		var changed <-chan struct{}
		if id, changed = a.invitation(); id != "" {
			break
		}
		select {
		case <-changed:
		case <-c.Ended():
			return
		case <-waiting:
			return
		}
	}
	a.took("Initial", id)
	switch u.random.IntN(6) {
	case 0:
		return
	case 1:
		u.hangUp(a, id)
		return
	}
	answer := map[string]any{"answer": device.Description{SDP: device.SilentAnswer()}}
	for _, status := range []string{"InProgress", "Ringing", "Connected"} {
		a.tries(status)
		body := map[string]any{"status": status}
		if status == "InProgress" {
			body["answer"] = answer["answer"]
		}
		if err := u.device.Do("PUT", device.Calls+"/"+id+"/status", nil, body, nil); err != nil {
			return // killed, or ended by it
		}
		a.took(status, id)
	}
	u.converse(a, id)
}

// subscribeAgain makes a further subscription and lets it end.
func (u *user) subscribeAgain() {
	limit := u.random.IntN(2) * (1 + u.random.IntN(6))
	id, q, err := u.subscribe(false, limit)
	if err != nil {
		if answered(err) {
			u.t.Errorf("subscribe: %v", err)
		}
		return
	}
	u.call()
	if limit > 0 && u.random.IntN(2) == 0 {
		return
	}
	err = u.insist("DELETE", device.Subscriptions+"/"+id, nil, nil, nil)
	switch {
	case err == nil || device.FailedWith(err, 404):
		u.ledger.mu.Lock()
		q.ended = true
		u.ledger.mu.Unlock()
	default:
		u.t.Errorf("end subscription %s: %v", id, err)
	}
}

// registerAgain gives a new registration to the device. What was acknowledged
// must be there, and what was given up gone.
func (u *user) registerAgain() {
	old := u.device.RegistrationID
	err := u.insist("DELETE", device.Registrations+"/"+old, nil, nil, nil)
	if err != nil && !device.FailedWith(err, 404) {
		u.t.Errorf("end registration %s: %v", old, err)
	}
	u.register()
	if err := u.insist("GET", device.Registrations+"/"+u.device.RegistrationID, nil, nil, nil); err != nil {
		u.t.Errorf("registration %s was acknowledged: %v", u.device.RegistrationID, err)
	}
	if err := u.insist("GET", device.Registrations+"/"+old, nil, nil, nil); old != u.device.RegistrationID && !device.FailedWith(err, 404) {
		u.t.Errorf("registration %s has ended, but a look at it answers %v", old, err)
	}
}

func (u *user) register() {
	var answer struct {
		RegistrationID string `json:"registrationId"`
	}
	err := u.insist("POST", device.Registrations, nil, map[string]any{"deviceId": u.device.ID}, &answer)
	if device.FailedWith(err, 409) {
		// An answer was lost with the process that gave it.
		all := []any{&answer}
		err = u.insist("GET", device.Registrations+"?deviceId="+u.device.ID, nil, nil, &all)
	}
	if err != nil {
		u.t.Errorf("register: %v", err)
		return
	}
	u.device.RegistrationID = answer.RegistrationID
}
