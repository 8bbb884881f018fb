package session

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/icelite"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/udp"
)

// mux shares the node's browser sockets among all WebRTC legs: a connectivity
// check finds its leg by user name fragment, everything else by the path that a
// check has validated.
type mux struct {
	groups  [][]*udp.Socket // by address, one socket for each loop
	metrics *Metrics
	now     func() time.Time

	mu     sync.RWMutex
	ufrags map[string]identity
	// Paths are looked up for every packet, by all loops at once.
	paths [pathShards]pathShard
}

const pathShards = 64

type pathShard struct {
	mu   sync.RWMutex
	legs map[icelite.Path]*webrtcLeg
	_    [24]byte // a cache line each
}

func (m *mux) shard(p icelite.Path) *pathShard {
	return &m.paths[(uint(p.Remote.Port())^uint(p.Remote.Addr().As16()[15])<<3)%pathShards]
}

// owner of a path; nil when it has none.
func (m *mux) owner(p icelite.Path) *webrtcLeg {
	s := m.shard(p)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.legs[p]
}

type identity struct {
	leg   *webrtcLeg
	creds icelite.Credentials
}

func newMux(groups [][]*udp.Socket, metrics *Metrics, now func() time.Time) *mux {
	m := &mux{groups: groups, metrics: metrics, now: now, ufrags: map[string]identity{}}
	for i := range m.paths {
		m.paths[i].legs = map[icelite.Path]*webrtcLeg{}
	}
	return m
}

// receiver of what arrives at a socket of a group.
func (m *mux) receiver(group int) udp.Receiver {
	return udp.Receiver{
		Handle: func(b []byte, from netip.AddrPort, out *udp.Batch) {
			m.receive(b, icelite.Path{Socket: group, Remote: from}, out)
		},
		Oversize: func() { m.metrics.drop(dropOversize) },
	}
}

func (m *mux) receive(b []byte, path icelite.Path, out *udp.Batch) {
	kind := udp.Classify(b)
	switch kind {
	case udp.STUN:
		m.check(b, path, out)
		return
	case udp.Unknown:
		m.metrics.drop(dropUnknown)
		return
	}
	leg := m.owner(path)
	if leg == nil {
		m.metrics.drop(dropSource)
		return
	}
	switch kind {
	case udp.DTLS:
		leg.receiveDTLS(b, out)
	case udp.RTP:
		m.metrics.webrtcIn.Inc()
		leg.receiveRTP(b, path, out)
	case udp.RTCP:
		leg.receiveRTCP(b, out)
	}
}

func (m *mux) check(b []byte, path icelite.Path, out *udp.Batch) {
	var leg *webrtcLeg
	result := icelite.Respond(b, path.Remote, func(ufrag string) (icelite.Credentials, bool) {
		m.mu.RLock()
		defer m.mu.RUnlock()
		id, ok := m.ufrags[ufrag]
		leg = id.leg
		return id.creds, ok
	})
	switch result.Verdict {
	case icelite.Accepted:
		// The leg learns of the path before the browser does, so that nothing
		// that the browser sends on it is foreign.
		m.metrics.stun.Inc()
		if !m.claim(path, leg) {
			m.metrics.drop(dropPath)
			return
		}
		leg.checked(path, result.LocalUfrag, result.UseCandidate, out)
	case icelite.Malformed:
		m.metrics.drop(dropSTUN)
	case icelite.Foreign:
		m.metrics.drop(dropForeign)
	case icelite.BadIntegrity:
		m.metrics.drop(dropIntegrity)
	}
	if result.Response != nil {
		_ = m.send(result.Response, path, out)
	}
}

// send on a path: with the batch of a loop, or at once.
func (m *mux) send(b []byte, path icelite.Path, out *udp.Batch) error {
	return out.Send(out.Pick(m.groups[path.Socket]), b, path.Remote)
}

// reserve gives a user name fragment to a leg.
func (m *mux) reserve(leg *webrtcLeg, creds icelite.Credentials) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id, taken := m.ufrags[creds.LocalUfrag]; taken && id.leg != leg {
		return fmt.Errorf("%q is used by another session", creds.LocalUfrag)
	}
	if _, own := m.ufrags[creds.LocalUfrag]; !own {
		m.ufrags[creds.LocalUfrag] = identity{leg, creds}
	}
	return nil
}

// update changes the credentials behind a fragment that the leg has reserved.
func (m *mux) update(leg *webrtcLeg, creds icelite.Credentials) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ufrags[creds.LocalUfrag] = identity{leg, creds}
}

func (m *mux) release(leg *webrtcLeg, ufrag string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ufrags[ufrag].leg == leg {
		delete(m.ufrags, ufrag)
	}
}

// claim makes a path belong to a leg. A path that another leg has selected and
// keeps alive stays with it: nobody may turn somebody else's media away by
// sending checks with a forged source address.
func (m *mux) claim(path icelite.Path, leg *webrtcLeg) bool {
	switch owner := m.owner(path); {
	case owner == leg:
		return true
	case owner != nil && owner.holds(path, m.now()):
		return false
	}
	s := m.shard(path)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.legs[path] = leg
	return true
}

func (m *mux) forget(leg *webrtcLeg, paths ...icelite.Path) {
	for _, p := range paths {
		s := m.shard(p)
		s.mu.Lock()
		if s.legs[p] == leg {
			delete(s.legs, p)
		}
		s.mu.Unlock()
	}
}
