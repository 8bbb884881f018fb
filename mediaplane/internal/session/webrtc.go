package session

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/dtlssrtp"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/icelite"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/srtp"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/udp"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// retireAfter is how long the DTLS association of a server outlives its
// handshake when no media proves that the browser has its last flight.
const retireAfter = 30 * time.Second

// webrtcLeg is a leg to a browser.
//
//	waiting ──check──▶ reachable ──DTLS──▶ keyed
//	    └──────────────── keys of the spec ──▲
//
// Everything is guarded by the session's lock, except what is atomic.
type webrtcLeg struct {
	session *Session
	name    string
	plan    *webrtcPlan

	ice      icelite.Association
	oldUfrag string // still answered until the browser nominates with the new one

	handshake *dtlssrtp.Handshake
	attempt   int // tells a handshake that was given up from the present one
	transform *srtp.Transform
	keyed     bool // the transform is that of the plan's certificates
	keyedAt   time.Time
	failed    bool
	closed    bool
	saved     checkpoint

	// path to send on; read without the lock by DTLS and by the mux.
	path      atomic.Pointer[icelite.Path]
	lastCheck atomic.Int64
}

func newWebRTCLeg(s *Session, name string, plan *webrtcPlan) *webrtcLeg {
	return &webrtcLeg{session: s, name: name, plan: plan}
}

func (l *webrtcLeg) id() string { return l.name }

// answers says whether the leg answers checks for a user name fragment already.
func (l *webrtcLeg) answers(ufrag string) bool {
	l.session.mu.Lock()
	defer l.session.mu.Unlock()
	return l.plan.ice.LocalUfrag == ufrag || l.oldUfrag == ufrag
}

// start makes the leg live. It is called with the session's lock held.
func (l *webrtcLeg) start(now time.Time) {
	l.session.node.mux.update(l, l.plan.ice)
	if l.plan.remote.IsValid() {
		path := icelite.Path{Socket: l.session.node.socketFor(l.plan.remote), Remote: l.plan.remote}
		l.session.node.mux.claim(path, l)
		l.ice.Restore(path, now)
		l.lastCheck.Store(now.UnixNano())
		l.usePath()
	}
	if l.plan.secure == nil {
		l.begin()
		return
	}
	transform, err := srtp.NewTransform(l.plan.secure.keys, l.plan.secure.sources)
	if err != nil {
		l.fail("dtls", "restore SRTP keys: "+err.Error())
		return
	}
	l.transform, l.keyed, l.keyedAt = transform, true, now
}

// resume makes the streams of the leg go on where their SSRCs were left.
func (l *webrtcLeg) resume() { l.session.resume(l.name, l.transform) }

// update changes the leg to a new plan. It is called with the lock held.
func (l *webrtcLeg) update(plan *webrtcPlan) {
	old := l.plan
	l.plan = plan
	mux := l.session.node.mux
	if old.ice.LocalUfrag != plan.ice.LocalUfrag {
		if l.oldUfrag != "" && l.oldUfrag != plan.ice.LocalUfrag {
			mux.release(l, l.oldUfrag)
		}
		l.oldUfrag = old.ice.LocalUfrag
	}
	mux.update(l, plan.ice)

	identity := bytes.Equal(certificate(old), certificate(plan)) && sameFingerprints(old.fingerprints, plan.fingerprints)
	started := l.handshake != nil || l.keyed || l.failed
	if started && !identity {
		// Another certificate is another DTLS association (RFC 8842 section
		// 4). Media goes on with the old keys until it is there.
		l.abandon()
		l.failed, l.keyed = false, false
	}
	l.begin()
}

func certificate(p *webrtcPlan) []byte {
	if len(p.certificate.Certificate) == 0 {
		return nil
	}
	return p.certificate.Certificate[0]
}

func sameFingerprints(a, b []dtlssrtp.Fingerprint) bool {
	return slices.EqualFunc(a, b, func(x, y dtlssrtp.Fingerprint) bool {
		return x.Algorithm == y.Algorithm && bytes.Equal(x.Value, y.Value)
	})
}

// checked notes an authenticated connectivity check.
func (l *webrtcLeg) checked(path icelite.Path, ufrag string, useCandidate bool, out *udp.Batch) {
	now := l.session.node.now()
	l.session.enter(out)
	defer l.session.leave()
	if l.closed {
		l.session.node.mux.forget(l, path)
		return
	}
	_, changed, evicted := l.ice.Check(path, useCandidate, now)
	l.lastCheck.Store(now.UnixNano())
	if evicted != nil {
		l.session.node.mux.forget(l, *evicted)
	}
	l.usePath()
	if useCandidate && ufrag == l.plan.ice.LocalUfrag && l.oldUfrag != "" {
		l.session.node.mux.release(l, l.oldUfrag)
		l.oldUfrag = ""
	}
	if changed {
		l.session.emit(&mediav1.SessionEvent{Event: &mediav1.SessionEvent_IceConnected{
			IceConnected: &mediav1.ICEConnected{Leg: l.name, Remote: socketAddress(path.Remote)},
		}})
		l.checkpoint(true)
	}
	l.begin()
}

func (l *webrtcLeg) usePath() {
	path, ok := l.ice.Usable()
	switch current := l.path.Load(); {
	case current == nil && !ok, current != nil && ok && *current == path:
		return
	}
	l.session.table.ReclaimLeg(l.name, l.session.node.now())
	if !ok {
		l.path.Store(nil)
		return
	}
	l.path.Store(&path)
}

// route of the leg: the selected path, with fresh consent and keys.
func (l *webrtcLeg) route(bool) (route, string) {
	path := l.path.Load()
	switch {
	case path == nil || !l.ice.Connected():
		return route{}, "no path to the browser with consent"
	case l.transform == nil:
		return route{}, "no SRTP keys yet"
	case !l.keyed || l.handshake != nil:
		return route{}, "DTLS handshake in progress"
	}
	return route{local: l.session.node.groups[path.Socket][0].Local(), remote: path.Remote, srtp: l.transform}, ""
}

// holds says whether the leg sends on a path with fresh consent.
func (l *webrtcLeg) holds(path icelite.Path, now time.Time) bool {
	current := l.path.Load()
	return current != nil && *current == path && now.UnixNano()-l.lastCheck.Load() < int64(icelite.ConsentTimeout)
}

// begin starts a handshake as client once there is someone to talk to.
func (l *webrtcLeg) begin() {
	if l.plan.client && l.path.Load() != nil {
		l.shake()
	}
}

// shake starts a handshake unless there is one, or its result.
func (l *webrtcLeg) shake() {
	if l.handshake != nil || l.keyed || l.failed || l.closed || len(l.plan.fingerprints) == 0 {
		return
	}
	l.attempt++
	attempt := l.attempt
	node := l.session.node
	h, err := dtlssrtp.Start(dtlssrtp.Config{
		Client: l.plan.client, Certificate: l.plan.certificate, Fingerprints: l.plan.fingerprints,
		Profiles: l.plan.profiles, Timeout: node.config.HandshakeTimeout,
	}, func(b []byte) error {
		path := l.path.Load()
		if path == nil {
			return errNoPath
		}
		return node.mux.send(b, *path, nil)
	}, func(keys srtp.Keys, err error) { l.shaken(attempt, keys, err) })
	if err != nil {
		l.fail("dtls", err.Error())
		return
	}
	node.handshakes.Add(1)
	go func() {
		defer node.handshakes.Done()
		h.Wait()
	}()
	l.handshake = h
}

var errNoPath = errors.New("no path to the browser")

func (l *webrtcLeg) shaken(attempt int, keys srtp.Keys, err error) {
	l.session.mu.Lock()
	defer l.session.mu.Unlock()
	if l.closed || attempt != l.attempt {
		return
	}
	var transform *srtp.Transform
	if err == nil {
		transform, err = srtp.NewTransform(keys, nil)
	}
	if err != nil {
		l.handshake = nil
		l.fail("dtls", err.Error())
		return
	}
	l.session.table.ReclaimLeg(l.name, l.session.node.now())
	l.transform, l.keyed, l.keyedAt = transform, true, l.session.node.now()
	l.session.table.Rekey(l.name)
	if l.plan.client {
		// The server's last flight has come: it needs nothing more.
		l.abandon()
	}
	l.session.log.Info("DTLS connected", "leg", l.name, "profile", keys.Profile.String())
	l.session.emit(&mediav1.SessionEvent{Event: &mediav1.SessionEvent_DtlsConnected{
		DtlsConnected: &mediav1.DTLSConnected{Leg: l.name, Profile: profileTo(keys.Profile)},
	}})
	l.checkpoint(true)
}

// abandon drops the DTLS association without a word to the browser.
func (l *webrtcLeg) abandon() {
	if l.handshake != nil {
		l.handshake.Close()
		l.handshake = nil
	}
	l.attempt++
}

func (l *webrtcLeg) fail(cause, reason string) {
	l.failed = l.failed || cause == "dtls"
	l.session.fail(l.name, cause, reason)
}

func (l *webrtcLeg) tick(now time.Time) {
	if l.ice.Expire(now) {
		l.usePath()
		l.fail("consent", "consent lost: no connectivity check of the browser for 30 s")
	}
	if l.handshake != nil && l.keyed && now.Sub(l.keyedAt) >= retireAfter {
		l.abandon()
	}
}

// checkpoint reports what another node would need, if it is news to a watcher.
func (l *webrtcLeg) checkpoint(force bool) {
	if l.transform == nil {
		return
	}
	var remote netip.AddrPort
	if path, ok := l.ice.Selected(); ok {
		remote = path.Remote
	}
	l.saved.report(l.session, l.name, l.transform, remote, force)
}

func (l *webrtcLeg) state() *mediav1.LegState {
	st := &mediav1.LegState{Id: l.name, IceConnected: l.ice.Connected(), DtlsConnected: l.transform != nil}
	for _, a := range l.session.node.WebRTCAddresses() {
		st.Local = append(st.Local, socketAddress(a))
	}
	if path, ok := l.ice.Selected(); ok {
		st.Remote = socketAddress(path.Remote)
	}
	if l.transform != nil {
		st.SrtpProfile = profileTo(l.transform.Keys().Profile)
	}
	return st
}

// close is called with the lock held.
func (l *webrtcLeg) close() {
	l.closed = true
	l.abandon()
	mux := l.session.node.mux
	mux.release(l, l.plan.ice.LocalUfrag)
	if l.oldUfrag != "" {
		mux.release(l, l.oldUfrag)
	}
	mux.forget(l, l.ice.Paths()...)
	l.path.Store(nil)
}

func socketAddress(a netip.AddrPort) *mediav1.SocketAddress {
	return &mediav1.SocketAddress{Ip: a.Addr().String(), Port: uint32(a.Port())}
}
