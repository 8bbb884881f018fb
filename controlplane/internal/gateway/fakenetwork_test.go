package gateway

import (
	"context"
	"fmt"
	"sync"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// fakeNetwork is a Network without wires. It notes what is asked of it, keeps
// the state of each call as far as operations depend on it, and leaves the
// events to the test.
type fakeNetwork struct {
	mu    sync.Mutex
	calls map[string]*fakeCall
	// ops are the operations in order, "End 603 Q.850 21" for instance.
	ops     []string
	invites []Invite
	// accounts registered now; order tells how they came and went.
	accounts map[string]Account
	// registerErr, inviteErr, acceptErr and endErr are what those answer.
	registerErr, inviteErr, acceptErr, endErr error
	// reoffer answers a re-INVITE; nil answers as a far end that agrees.
	reoffer func(ctx context.Context, offer string) (string, error)
	// reliable: calls in set-up can take an offer by UPDATE.
	reliable bool
	// media is the policy of the one trunk.
	media MediaPolicy
	// wrong is what must not be asked.
	wrong []string
	// ended is told of a call's End; nil leaves the event to the test.
	ended func(callID string, e Ending)
}

// fakeCall is a call as a SIP dialog machine has it.
type fakeCall struct {
	incoming  bool
	answered  bool
	over      bool
	cause     *call.Cause
	localSDP  string
	remoteSDP string
}

func newFakeNetwork() *fakeNetwork {
	return &fakeNetwork{calls: map[string]*fakeCall{}, accounts: map[string]Account{}}
}

func (n *fakeNetwork) note(format string, args ...any) {
	n.ops = append(n.ops, fmt.Sprintf(format, args...))
}

func (n *fakeNetwork) MediaPolicy(context.Context, Invite) MediaPolicy { return n.media }

// took answers the operations since the last time, and forgets them.
func (n *fakeNetwork) took() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := n.ops
	n.ops = nil
	return out
}

func (n *fakeNetwork) Register(_ context.Context, a Account) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("Register %s", a.Number)
	if n.registerErr == nil {
		n.accounts[a.RegistrationID] = a
	}
	return n.registerErr
}

func (n *fakeNetwork) Keep(accounts []Account) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range accounts {
		n.note("Keep %s", a.Number)
		n.accounts[a.RegistrationID] = a
	}
}

func (n *fakeNetwork) Deregister(_ context.Context, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("Deregister")
	delete(n.accounts, id)
	return nil
}

func (n *fakeNetwork) Invite(_ context.Context, in Invite) (Dialog, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("Invite %s", in.Receiver)
	n.invites = append(n.invites, in)
	if n.inviteErr != nil {
		return Dialog{}, n.inviteErr
	}
	n.calls[in.CallID] = &fakeCall{localSDP: in.SDP}
	return Dialog{SIPCallID: "sip-" + in.CallID, LocalTag: "local", Undo: []byte("cancel")}, nil
}

func (n *fakeNetwork) Abandon(_ context.Context, callID string, d Dialog) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("Abandon %s", d.Undo)
	delete(n.calls, callID)
	return nil
}

// live finds a call that is not over, under the lock.
func (n *fakeNetwork) live(callID string) (*fakeCall, error) {
	c := n.calls[callID]
	if c == nil || c.over {
		return nil, ErrNoDialog
	}
	return c, nil
}

func (n *fakeNetwork) Progress(_ context.Context, callID string, code int, text string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("Progress %d", code)
	c, err := n.live(callID)
	if err != nil || c.answered || c.cause != nil {
		return ErrNoDialog
	}
	if text != "" {
		c.localSDP = text
	}
	return nil
}

func (n *fakeNetwork) CallWaiting(_ context.Context, callID string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("CallWaiting")
	_, err := n.live(callID)
	return err
}

func (n *fakeNetwork) Accept(_ context.Context, callID, text string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("Accept")
	c, err := n.live(callID)
	if err != nil || c.answered || c.cause != nil {
		return ErrNoDialog
	}
	if n.acceptErr != nil {
		return n.acceptErr
	}
	c.answered, c.localSDP = true, text
	return nil
}

func (n *fakeNetwork) Reoffer(ctx context.Context, callID, offer string) (string, error) {
	n.mu.Lock()
	c, err := n.live(callID)
	if err != nil || c.cause != nil {
		n.mu.Unlock()
		return "", ErrNoDialog
	}
	if !c.answered && !n.reliable {
		n.note("Reoffer too early")
		n.mu.Unlock()
		return "", ErrTooEarly
	}
	remote, err := sdp.ParseCoreSRTP(offer, n.media.SRTP)
	if err != nil {
		n.mu.Unlock()
		return "", err
	}
	n.note("Reoffer %s", remote.Direction)
	c.localSDP = offer
	answer := n.reoffer
	n.mu.Unlock()
	if answer == nil {
		return coreAnswer(offer, sdp.SendRecv), nil
	}
	return answer(ctx, offer)
}

func (n *fakeNetwork) SendDTMF(_ context.Context, callID, digit string, _ int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("DTMF %s", digit)
	_, err := n.live(callID)
	return err
}

func (n *fakeNetwork) End(_ context.Context, callID string, cause call.Cause) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, err := n.live(callID)
	if err != nil {
		return err
	}
	n.note("End %d Q.850 %d", cause.Code, cause.Q850)
	if n.endErr != nil {
		return n.endErr
	}
	if c.cause != nil {
		n.wrong = append(n.wrong, fmt.Sprintf("call %s is asked to end again, with %+v", callID, cause))
	}
	c.cause = &cause
	if n.ended != nil {
		go n.ended(callID, n.ending(c))
	}
	return nil
}

// ending is the natural end of a call after End.
func (n *fakeNetwork) ending(c *fakeCall) Ending {
	switch {
	case c.answered:
		return Ending{Kind: EndedBye, Local: true, Signal: call.Signal{Phrase: c.cause.Text, Q850: c.cause.Q850}}
	case c.incoming:
		return Ending{Kind: EndedRefused, Local: true, Signal: call.Signal{Code: c.cause.Code, Phrase: c.cause.Text, Q850: c.cause.Q850}}
	}
	return Ending{Kind: EndedRejected, Local: true, Signal: call.Signal{Code: 487, Phrase: "Request Terminated"}}
}

func (n *fakeNetwork) Restore(_ context.Context, callID string, d Dialog) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("Restore %s", d.SIPCallID)
	if string(d.State) == "spoiled" {
		return fmt.Errorf("the state of the dialog cannot be read")
	}
	n.calls[callID] = &fakeCall{answered: true}
	return nil
}

// finish notes that a call is over, once; what for is left to the caller.
func (n *fakeNetwork) finish(callID string) (c *fakeCall, first bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c = n.calls[callID]
	if c == nil || c.over {
		return c, false
	}
	c.over = true
	return c, true
}
