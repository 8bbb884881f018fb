package registrar

import (
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/reginfo"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// Keep goes on with the binding that an earlier process made for a registration: it
// counts as bound, and is refreshed once after the delay. A binding that exists is
// only shared.
func (r *Registrar) Keep(id string, t *trunk.Trunk, n call.Number, delay time.Duration) {
	for {
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			return
		}
		b := r.bindings[key{t.Name, n}]
		if b == nil {
			// Nobody else can have its lock yet, but the timer will want it.
			b = r.add(t, n)
			b.mu.Lock()
			b.users[id] = true
			b.state = bound
			b.until = r.cfg.Now().Add(t.Expires)
			b.timer(delay)
			b.mu.Unlock()
			r.byID[id] = b
			r.mu.Unlock()
			return
		}
		r.byID[id] = b
		r.mu.Unlock()
		if _, ok := b.use(id); ok {
			return
		}
	}
}

// Notified is told what the registrar says about a number. mine tells our Contact
// from others of the number.
func (r *Registrar) Notified(trunkName string, n call.Number, info reginfo.Info, mine func(uri string) bool) {
	b := r.binding(trunkName, n)
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != bound || b.sending {
		return // the REGISTER under way says more
	}
	for _, reg := range info.Registrations {
		for _, c := range reg.Contacts {
			if mine(c.URI) {
				b.notified(c)
				return
			}
		}
	}
}

// notified is told of our own Contact. The caller holds the lock.
func (b *binding) notified(c reginfo.Contact) {
	switch {
	case c.State == "terminated" && (c.Event == "rejected" || c.Event == "unregistered"):
		b.lost("the registrar has ended the registration: " + c.Event)
	case c.State == "terminated" && c.Event == "probation":
		b.timer(max(c.RetryAfter, b.r.cfg.Retry))
	case c.State == "terminated":
		b.send(b.expires)
	case c.Expires > 0 && b.r.cfg.Now().Add(c.Expires).Before(b.until):
		// Shortened: a network that wants to authenticate again soon.
		b.until = b.r.cfg.Now().Add(c.Expires)
		b.timer(c.Expires / 2)
	}
}
