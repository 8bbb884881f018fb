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
	sockets []*udp.Socket
	metrics *Metrics
	now     func() time.Time

	mu     sync.RWMutex
	ufrags map[string]identity
	paths  map[icelite.Path]*webrtcLeg
}

type identity struct {
	leg   *webrtcLeg
	creds icelite.Credentials
}

func newMux(sockets []*udp.Socket, metrics *Metrics, now func() time.Time) *mux {
	return &mux{sockets: sockets, metrics: metrics, now: now, ufrags: map[string]identity{}, paths: map[icelite.Path]*webrtcLeg{}}
}

// serve reads one socket until it is closed.
func (m *mux) serve(socket int) {
	m.sockets[socket].Serve(func(b []byte, from netip.AddrPort) {
		m.receive(b, icelite.Path{Socket: socket, Remote: from})
	}, func() { m.metrics.drop(dropOversize) })
}

func (m *mux) receive(b []byte, path icelite.Path) {
	kind := udp.Classify(b)
	switch kind {
	case udp.STUN:
		m.check(b, path)
		return
	case udp.Unknown:
		m.metrics.drop(dropUnknown)
		return
	}
	m.mu.RLock()
	leg := m.paths[path]
	m.mu.RUnlock()
	if leg == nil {
		m.metrics.drop(dropSource)
		return
	}
	switch kind {
	case udp.DTLS:
		leg.receiveDTLS(b)
	case udp.RTP:
		m.metrics.webrtcIn.Inc()
		leg.receiveRTP(b, path)
	case udp.RTCP:
		leg.receiveRTCP(b)
	}
}

func (m *mux) check(b []byte, path icelite.Path) {
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
		leg.checked(path, result.LocalUfrag, result.UseCandidate)
	case icelite.Malformed:
		m.metrics.drop(dropSTUN)
	case icelite.Foreign:
		m.metrics.drop(dropForeign)
	case icelite.BadIntegrity:
		m.metrics.drop(dropIntegrity)
	}
	if result.Response != nil {
		_ = m.send(result.Response, path)
	}
}

func (m *mux) send(b []byte, path icelite.Path) error {
	return m.sockets[path.Socket].Send(b, path.Remote)
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
	m.mu.RLock()
	owner := m.paths[path]
	m.mu.RUnlock()
	if owner == leg {
		return true
	}
	if owner != nil && owner.holds(path, m.now()) {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paths[path] = leg
	return true
}

func (m *mux) forget(leg *webrtcLeg, paths ...icelite.Path) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range paths {
		if m.paths[p] == leg {
			delete(m.paths, p)
		}
	}
}
