// Package registrar keeps numbers registered at the operator's registrar
// (RFC 3261 10, Service-Route RFC 3608, P-Associated-URI RFC 7315, instance RFC
// 5626): one binding per number however many devices use it, refreshed at a random
// point between half and nine tenths of its life, so that the refreshes of many
// numbers spread.
//
//	      Register                      refused, or expired unrefreshed
//	idle ─────────► registering ──200──► bound ──────────► lost: told once
//	 │                  ▲                  ▲ │  ▲
//	 │                  └── 423, digest    │ └──┘ refresh; after a failure again
//	 └─────────────────────────────────────┘      and again until it expires
//	      Keep: a binding of an earlier process, refreshed soon
//
// A registrar that offers its reg event (RFC 3680) is subscribed to while the
// number is bound. When it says that the binding is gone, a deactivated or expired
// one is registered anew at once, one on probation later, a rejected or
// unregistered one is lost.
//
// Deregister of the last device sends Expires: 0. A binding has timers, no
// goroutine.
package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// Request is one REGISTER to send.
type Request struct {
	Trunk  *trunk.Trunk
	Number call.Number
	CallID string
	Tag    string
	Seq    uint32
	// Expires in seconds; 0 removes the binding.
	Expires uint32
}

// Answer is the final outcome of a REGISTER.
type Answer struct {
	call.Signal
	// Err is set when there was no response; Timeout tells why.
	Err     error
	Timeout bool
	// Challenged: credentials were added, the request is worth repeating.
	Challenged bool
	// Expires granted for our contact, in seconds.
	Expires    uint32
	MinExpires uint32
	RetryAfter time.Duration
	// ServiceRoute URIs for calls of the number, Associated URIs that it may
	// call itself.
	ServiceRoute, Associated []string
	// Outbound: the registrar keeps flows (RFC 5626).
	Outbound bool
	// Events: the registrar offers its reg event.
	Events bool
}

// Transport sends REGISTER requests. result is called once, on any goroutine.
type Transport interface {
	Register(r Request, result func(Answer))
	// Forget is told that a Call-ID will not be used again.
	Forget(callID string)
	// NewID makes the Call-ID and tag of a binding.
	NewID(n call.Number) (callID, tag string)
	// Watch subscribes to the registrar's reg event for a number, whose news go
	// to Notified, until Unwatch.
	Watch(t *trunk.Trunk, n call.Number)
	Unwatch(t *trunk.Trunk, n call.Number)
	// After runs f once after d, unless the network closes before.
	After(d time.Duration, f func()) (stop func())
}

// Config of a Registrar.
type Config struct {
	Transport Transport
	// Retry is the first pause after a failed refresh, above 0.
	Retry  time.Duration
	Rand   func(limit int) int
	Now    func() time.Time
	Logger *slog.Logger
	// Lost is told of every registration whose binding cannot be restored.
	Lost func(a gateway.Account, description string)
}

// Registrar holds all bindings.
type Registrar struct {
	cfg Config

	// granted counts the REGISTERs that a registrar has granted.
	granted atomic.Int64

	mu       sync.Mutex
	closed   bool
	bindings map[key]*binding
	byID     map[string]*binding
}

// key of a binding: a number may have accounts on trunks of several tenants.
type key struct {
	trunk  string
	number call.Number
}

type state int

const (
	registering state = iota + 1
	bound
	removing
	gone
)

type binding struct {
	r      *Registrar
	trunk  *trunk.Trunk
	number call.Number
	callID string
	tag    string

	mu      sync.Mutex
	state   state
	seq     uint32
	expires uint32 // asked for
	until   time.Time
	profile Profile
	watched bool
	retries int
	users   map[string]bool
	waiters []chan error
	stop    func()
	// sending tells that a REGISTER is under way.
	sending bool
}

// New makes a Registrar.
func New(cfg Config) *Registrar {
	return &Registrar{cfg: cfg, bindings: map[key]*binding{}, byID: map[string]*binding{}}
}

// Count is the number of bindings in force.
func (r *Registrar) Count() int {
	r.mu.Lock()
	all := make([]*binding, 0, len(r.bindings))
	for _, b := range r.bindings {
		all = append(all, b)
	}
	r.mu.Unlock()
	n := 0
	for _, b := range all {
		b.mu.Lock()
		if b.state == bound {
			n++
		}
		b.mu.Unlock()
	}
	return n
}

// Granted is how many REGISTERs a registrar has granted so far.
func (r *Registrar) Granted() int64 { return r.granted.Load() }

// Profile is what the registrar said about a binding, as far as calls use it. It is
// not changed after it was handed out.
type Profile struct {
	// ServiceRoute URIs that requests outside of dialogs take.
	ServiceRoute []string
	// Associated URIs, the default identity first.
	Associated []string
	// Outbound: Contacts of calls say that they belong to the flow.
	Outbound bool
}

// Profile of a number's binding; zero when there is none.
func (r *Registrar) Profile(trunkName string, n call.Number) Profile {
	b := r.binding(trunkName, n)
	if b == nil {
		return Profile{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.profile
}

func (r *Registrar) binding(trunkName string, n call.Number) *binding {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bindings[key{trunkName, n}]
}

// ByContact finds the number whose registered Contact has the user part.
func (r *Registrar) ByContact(trunkName, user string) (call.Number, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.bindings[key{trunkName, call.Number(user)}]
	if b == nil {
		return "", false
	}
	return b.number, true
}

var errClosed = errors.New("the SIP network is shutting down")

// Register makes the number reachable for a registration and waits for the
// registrar's answer. A number that is bound already costs no message.
func (r *Registrar) Register(ctx context.Context, id string, t *trunk.Trunk, n call.Number) error {
	b, w, err := r.use(id, t, n)
	if err != nil || w == nil {
		return err
	}
	select {
	case err := <-w:
		if err != nil {
			r.drop(b, id)
		}
		return err
	case <-ctx.Done():
		_ = r.Deregister(context.WithoutCancel(ctx), id)
		return fmt.Errorf("%w: %w", gateway.ErrNetworkTimeout, ctx.Err())
	}
}

// use adds a registration to a number's binding, which it makes when needed, and
// answers the channel to wait on; nil when the number is bound.
func (r *Registrar) use(id string, t *trunk.Trunk, n call.Number) (*binding, chan error, error) {
	for {
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			return nil, nil, fmt.Errorf("%w: %w", gateway.ErrNetworkDown, errClosed)
		}
		b := r.bindings[key{t.Name, n}]
		if b == nil {
			b = r.add(t, n)
		}
		r.byID[id] = b
		r.mu.Unlock()
		if w, ok := b.use(id); ok {
			return b, w, nil
		}
	}
}

// add makes a binding. The caller holds the lock.
func (r *Registrar) add(t *trunk.Trunk, n call.Number) *binding {
	b := &binding{r: r, trunk: t, number: n, users: map[string]bool{}, expires: uint32(t.Expires / time.Second)}
	b.callID, b.tag = r.cfg.Transport.NewID(n)
	r.bindings[key{t.Name, n}] = b
	return b
}

// use is false for a binding that is gone.
func (b *binding) use(id string) (chan error, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state {
	case gone:
		return nil, false
	case bound:
		b.users[id] = true
		return nil, true
	}
	b.users[id] = true
	w := make(chan error, 1)
	b.waiters = append(b.waiters, w)
	if b.state != registering {
		b.state = registering
		b.retries = 0
		if !b.sending {
			b.send(b.expires)
		}
	}
	return w, true
}

// drop forgets a registration, and its binding when it was the last.
func (r *Registrar) drop(b *binding, id string) (last bool) {
	b.mu.Lock()
	delete(b.users, id)
	last = len(b.users) == 0
	b.mu.Unlock()
	r.mu.Lock()
	if r.byID[id] == b {
		delete(r.byID, id)
	}
	r.mu.Unlock()
	return last
}

// Deregister ends a registration; the last one of a number removes the binding and
// waits for the registrar until ctx ends. A failure of that is no error: the
// binding expires by itself.
func (r *Registrar) Deregister(ctx context.Context, id string) error {
	r.mu.Lock()
	b := r.byID[id]
	r.mu.Unlock()
	if b == nil || !r.drop(b, id) {
		return nil
	}
	b.mu.Lock()
	if len(b.users) > 0 || b.state == gone {
		b.mu.Unlock()
		return nil
	}
	w := make(chan error, 1)
	b.waiters = append(b.waiters, w)
	was := b.state
	b.state = removing
	if was != removing && !b.sending {
		b.send(0)
	}
	b.mu.Unlock()
	select {
	case <-w:
	case <-ctx.Done():
	}
	return nil
}

// Close stops all timers and wakes all that wait.
func (r *Registrar) Close() {
	r.mu.Lock()
	r.closed = true
	all := r.bindings
	r.bindings, r.byID = map[key]*binding{}, map[string]*binding{}
	r.mu.Unlock()
	for _, b := range all {
		b.mu.Lock()
		b.state = gone
		b.halt()
		b.wake(fmt.Errorf("%w: %w", gateway.ErrNetworkDown, errClosed))
		b.mu.Unlock()
	}
}

func (b *binding) halt() {
	if b.stop != nil {
		b.stop()
		b.stop = nil
	}
}

func (b *binding) wake(err error) {
	for _, w := range b.waiters {
		w <- err
	}
	b.waiters = nil
}

// send starts a REGISTER. The caller holds the lock.
func (b *binding) send(expires uint32) {
	b.halt()
	b.seq++
	b.sending = true
	b.r.cfg.Transport.Register(Request{Trunk: b.trunk, Number: b.number, CallID: b.callID, Tag: b.tag, Seq: b.seq, Expires: expires},
		func(a Answer) { b.answer(a, expires) })
}

func (b *binding) answer(a Answer, asked uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sending = false
	switch {
	case b.state == gone:
	case a.Challenged:
		if b.state == removing {
			asked = 0
		}
		b.send(asked)
	case b.state == removing && asked > 0:
		b.send(0) // it was under way when the last device left
	case b.state == removing:
		b.forget()
		b.wake(nil)
	case asked == 0:
		b.send(b.expires) // a device came back while the binding was removed
	case a.Err == nil && a.Code/100 == 2:
		b.bound(a)
	case a.Code == 423 && a.MinExpires > b.expires:
		b.expires = a.MinExpires
		b.send(b.expires)
	default:
		b.failed(a)
	}
}

// bound starts the life of a binding. The caller holds the lock.
func (b *binding) bound(a Answer) {
	life := a.Expires
	if life == 0 {
		life = b.expires
	}
	b.r.granted.Add(1)
	b.state, b.retries = bound, 0
	b.profile = Profile{ServiceRoute: a.ServiceRoute, Associated: a.Associated, Outbound: a.Outbound}
	if a.Events && !b.watched {
		b.watched = true
		b.r.cfg.Transport.Watch(b.trunk, b.number)
	}
	whole := time.Duration(life) * time.Second
	b.until = b.r.cfg.Now().Add(whole)
	b.timer(whole/2 + whole*4/10*time.Duration(b.r.cfg.Rand(1001))/1000)
	b.wake(nil)
}

func (b *binding) timer(d time.Duration) {
	b.halt()
	b.stop = b.r.cfg.Transport.After(d, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.state == bound && !b.sending {
			b.send(b.expires)
		}
	})
}

// failed handles a refusal or silence. The caller holds the lock.
func (b *binding) failed(a Answer) {
	err := outcome(a)
	passing := a.Err != nil || a.Code == 408 || a.Code == 480 || a.Code == 500 || a.Code == 503 || a.Code == 504
	if b.state == registering {
		// Nobody relies on it yet: those who wait hear of it.
		b.forget()
		b.wake(err)
		return
	}
	left := b.until.Sub(b.r.cfg.Now())
	if passing && left > 0 {
		pause := b.r.cfg.Retry << min(b.retries, 6)
		if a.RetryAfter > pause {
			pause = a.RetryAfter
		}
		pause += pause * time.Duration(b.r.cfg.Rand(251)) / 1000
		b.retries++
		b.r.cfg.Logger.Warn("sip: a registration could not be refreshed, it will be tried again", "number", b.number, "error", err, "in", min(pause, left))
		b.timer(min(pause, left))
		return
	}
	b.lost(err.Error())
}

// lost tells every device that the binding is gone for good. The caller holds the
// lock.
func (b *binding) lost(description string) {
	b.r.cfg.Logger.Warn("sip: a registration is lost", "number", b.number, "error", description)
	users := make([]string, 0, len(b.users))
	for id := range b.users {
		users = append(users, id)
	}
	b.forget()
	b.r.cfg.Transport.After(0, func() {
		for _, id := range users {
			b.r.cfg.Lost(gateway.Account{RegistrationID: id, Tenant: b.trunk.Tenant, Number: b.number}, description)
		}
	})
}

func outcome(a Answer) error {
	switch {
	case a.Err == nil:
		return &gateway.RejectedError{Signal: a.Signal}
	case a.Timeout:
		return fmt.Errorf("%w: %w", gateway.ErrNetworkTimeout, a.Err)
	}
	return fmt.Errorf("%w: %w", gateway.ErrNetworkDown, a.Err)
}

// forget takes the binding out of the registrar. The caller holds the lock.
func (b *binding) forget() {
	b.halt()
	b.state = gone
	if b.watched {
		b.watched = false
		b.r.cfg.Transport.Unwatch(b.trunk, b.number)
	}
	users := b.users
	b.users = map[string]bool{}
	b.r.mu.Lock()
	if k := (key{b.trunk.Name, b.number}); b.r.bindings[k] == b {
		delete(b.r.bindings, k)
	}
	for id := range users {
		if b.r.byID[id] == b {
			delete(b.r.byID, id)
		}
	}
	b.r.mu.Unlock()
	b.r.cfg.Transport.Forget(b.callID)
}
