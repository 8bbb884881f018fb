package session

import (
	"net/netip"
	"time"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/forward"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/srtp"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/udp"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// rtpLeg is a leg toward the operator's network, on a port pair of its own.
//
//	open ──first valid RTP──▶ latched ──new remote in the spec──▶ open
//
// While open it sends where the spec says and listens to everybody; once latched
// it sends where the packets came from, and listens to nobody else (symmetric
// RTP, RFC 4961). With a strict source it never latches. With keys all of it is
// SRTP, and only a packet that authenticates latches.
type rtpLeg struct {
	session    *Session
	name       string
	plan       *rtpPlan
	pair       *udp.Pair
	advertised netip.Addr

	latched     netip.AddrPort
	latchedRTCP netip.AddrPort
	// former is where packets came from until the far end moved.
	former  netip.AddrPort
	movedAt time.Time
	closed  bool

	transform *srtp.Transform // in force while the plan has keys
	rekeyed   time.Time       // when the keys before are to be retired
	saved     checkpoint
}

// stragglers is how long packets may be under way.
const stragglers = time.Second

// retireKeys is how long a far end may go on with keys that its description has
// replaced.
const retireKeys = 10 * time.Second

func (l *rtpLeg) id() string { return l.name }

func (l *rtpLeg) start(now time.Time) {
	l.secure(l.plan.secure, now)
}

// update changes the leg to a new plan on the same ports.
func (l *rtpLeg) update(plan *rtpPlan) {
	moved := plan.remote != l.plan.remote && plan.remote != l.latched
	if moved || plan.strict && !l.plan.strict {
		l.former, l.movedAt = l.latched, l.session.node.now()
		l.latched, l.latchedRTCP = netip.AddrPort{}, netip.AddrPort{}
	}
	l.plan = plan
	l.secure(plan.secure, l.session.node.now())
}

// secure puts the keys of a plan into force; nil is none. The transform outlives
// a time in the clear: should its keys come back, no index is used twice.
func (l *rtpLeg) secure(p *securePlan, now time.Time) {
	s := l.session
	switch {
	case p == nil:
		return
	case l.transform == nil:
		transform, err := srtp.NewTransform(p.keys, p.sources)
		if err != nil {
			l.fail(err)
			return
		}
		l.transform = transform
		// Whoever latched the leg while it was in the clear had shown nothing.
		if l.latched != l.plan.remote {
			l.latched, l.latchedRTCP = netip.AddrPort{}, netip.AddrPort{}
		}
		if len(p.sources) == 0 {
			s.table.Rekey(l.name)
		}
	case l.transform.Keys().Equal(p.keys):
		return
	default:
		sends, err := l.transform.Rekey(p.keys)
		if err != nil {
			l.fail(err)
			return
		}
		if sends {
			s.table.Rekey(l.name)
		}
		l.rekeyed = now.Add(retireKeys)
	}
	s.log.Info("SRTP keys in force", "leg", l.name, "profile", p.keys.Profile.String())
	l.checkpoint(true)
}

// fail tells that keys cannot be used: nothing is sent in the clear instead.
func (l *rtpLeg) fail(err error) {
	l.session.fail(l.name, "srtp", "use SRTP keys: "+err.Error())
}

// straggles says whether a packet may be one that was under way when the far end
// moved: it passes, but says nothing about where the far end is now. A far end that
// goes on from where it was has only described itself anew.
func (l *rtpLeg) straggles(from netip.AddrPort) bool {
	return from == l.former && l.session.node.now().Sub(l.movedAt) < stragglers
}

// accepts says whether a source may send RTP to the leg as far as is known.
func (l *rtpLeg) accepts(from netip.AddrPort) bool {
	switch {
	case l.plan.strict:
		return from == l.plan.remote
	case l.latched.IsValid():
		return from == l.latched
	}
	return true
}

func (l *rtpLeg) receive(b []byte, from netip.AddrPort, out *udp.Batch) {
	s := l.session
	kind := udp.Classify(b)
	s.enter(out)
	defer s.leave()
	switch {
	case l.closed:
		return
	case kind == udp.RTCP && l.plan.mux:
		l.control(b, from)
		return
	case !l.accepts(from):
		l.foreign(b)
		return
	case kind != udp.RTP && kind != udp.RTCP:
		s.node.metrics.drop(dropUnknown)
		s.table.Count(l.name, b, forward.Garbage)
		return
	}
	s.node.metrics.rtpIn.Inc()
	if l.plan.secure != nil {
		if l.transform == nil {
			s.node.metrics.drop(dropNoKeys)
			return
		}
		var ok bool
		if b, ok = s.unprotect(l.name, l.transform, b); !ok {
			return
		}
	}
	if !l.plan.strict && !l.latched.IsValid() && !l.straggles(from) && s.table.Valid(l.name, b) {
		s.table.ReclaimLeg(l.name, s.node.now())
		l.latched = from
		s.log.Info("source latched", "leg", l.name, "remote", from.String())
		s.emit(&mediav1.SessionEvent{Event: &mediav1.SessionEvent_SourceLatched{
			SourceLatched: &mediav1.SourceLatched{Leg: l.name, Remote: socketAddress(from)},
		}})
	}
	s.source = from
	s.receive(l.name, b)
}

func (l *rtpLeg) foreign(b []byte) {
	l.session.table.Count(l.name, b, forward.ForeignSource)
	l.session.node.metrics.drop(dropSource)
}

func (l *rtpLeg) receiveControl(b []byte, from netip.AddrPort, out *udp.Batch) {
	l.session.enter(out)
	defer l.session.leave()
	if !l.closed {
		l.control(b, from)
	}
}

// control takes RTCP. The lock is held.
func (l *rtpLeg) control(b []byte, from netip.AddrPort) {
	s := l.session
	if l.plan.noRTCP {
		s.node.metrics.drop(dropRTCPOff)
		return
	}
	// RTCP says nothing by itself about who may speak: it must come from the
	// host that the media comes from, and then keep to one port.
	host := l.plan.remote.Addr()
	if l.latched.IsValid() {
		host = l.latched.Addr()
	}
	if host.IsValid() && from.Addr() != host || l.latchedRTCP.IsValid() && from != l.latchedRTCP {
		l.foreign(nil)
		return
	}
	s.sync()
	if l.plan.secure != nil && udp.Classify(b) == udp.RTCP {
		if l.transform == nil {
			s.node.metrics.drop(dropNoKeys)
			return
		}
		plain, err := l.transform.UnprotectRTCP(s.plain[:0], b)
		if err != nil {
			s.refuse(l.name, nil, err)
			return
		}
		b = plain
	}
	if udp.Classify(b) != udp.RTCP || !s.table.ReceiveRTCP(l.name, b, s.node.now()) {
		s.node.metrics.drop(dropMalformed)
		return
	}
	if !l.plan.strict && l.latched.IsValid() {
		l.latchedRTCP = from
	}
}

func (l *rtpLeg) remote() netip.AddrPort {
	if l.latched.IsValid() {
		return l.latched
	}
	return l.plan.remote
}

// route of the leg. What it forwards must come from one address, and be known to.
func (l *rtpLeg) route(receiving bool) (route, string) {
	to := l.remote()
	switch {
	case receiving && !l.plan.strict && !l.latched.IsValid():
		return route{}, "no source latched yet"
	case !to.IsValid():
		return route{}, "the far end has no address yet"
	case l.plan.secure != nil && l.transform == nil:
		return route{}, "no SRTP keys yet"
	case l.plan.secure != nil && !l.rekeyed.IsZero():
		return route{}, "SRTP keys are being changed"
	}
	r := route{local: l.pair.RTP.Local(), remote: to}
	if l.plan.secure != nil {
		r.srtp = l.transform
	}
	return r, ""
}

func (l *rtpLeg) remoteControl() netip.AddrPort {
	switch {
	case l.plan.mux:
		return l.remote()
	case l.latchedRTCP.IsValid():
		return l.latchedRTCP
	case l.plan.remoteRTCP.IsValid():
		return l.plan.remoteRTCP
	}
	if r := l.remote(); r.IsValid() && r.Port() < 0xffff {
		return netip.AddrPortFrom(r.Addr(), r.Port()+1)
	}
	return netip.AddrPort{}
}

func (l *rtpLeg) sendRTP(packet []byte, ssrc uint32, index uint64) forward.SendResult {
	to := l.remote()
	if !to.IsValid() || l.plan.secure != nil && l.transform == nil {
		return forward.NotReady
	}
	if l.plan.secure != nil {
		protected, err := l.transform.Protect(l.session.cipher[:0], packet, ssrc, index)
		if err != nil {
			l.session.node.metrics.drop(protectFailure(err))
			return forward.Dropped
		}
		packet = protected
	}
	if err := l.pair.RTP.Send(packet, to); err != nil {
		l.session.node.metrics.drop(dropSend)
		return forward.Dropped
	}
	l.session.node.metrics.rtpOut.Inc()
	return forward.Sent
}

func (l *rtpLeg) sendRTCP(packet []byte) {
	to := l.remoteControl()
	if !to.IsValid() || l.plan.noRTCP || l.plan.secure != nil && l.transform == nil {
		return
	}
	if l.plan.secure != nil {
		protected, err := l.transform.ProtectRTCP(l.session.cipher[:0], packet)
		if err != nil {
			return
		}
		packet = protected
	}
	if l.plan.mux {
		_ = l.pair.RTP.Send(packet, to)
		return
	}
	_ = l.pair.RTCP.Send(packet, to)
}

func (l *rtpLeg) tick(now time.Time) {
	if l.transform != nil && !l.rekeyed.IsZero() && now.After(l.rekeyed) {
		l.transform.Retire()
		l.rekeyed = time.Time{}
	}
}

// resume makes the streams of the leg go on where their SSRCs were left.
func (l *rtpLeg) resume() {
	if l.plan.secure != nil {
		l.session.resume(l.name, l.transform)
	}
}

// checkpoint reports what another node would need, if it is news to a watcher.
func (l *rtpLeg) checkpoint(force bool) {
	if l.plan.secure != nil && l.transform != nil {
		l.saved.report(l.session, l.name, l.transform, l.remote(), force)
	}
}

func (l *rtpLeg) local() netip.AddrPort {
	return netip.AddrPortFrom(l.advertised, l.pair.RTP.Local().Port())
}

func (l *rtpLeg) state() *mediav1.LegState {
	local := l.local()
	control := netip.AddrPortFrom(local.Addr(), l.pair.RTCP.Local().Port())
	if l.plan.mux {
		control = local
	}
	st := &mediav1.LegState{
		Id: l.name, Local: []*mediav1.SocketAddress{socketAddress(local)}, LocalRtcp: socketAddress(control),
	}
	if r := l.remote(); r.IsValid() {
		st.Remote = socketAddress(r)
	}
	if l.plan.secure != nil && l.transform != nil {
		st.SrtpProfile = profileTo(l.transform.Keys().Profile)
	}
	return st
}

func (l *rtpLeg) close() {
	l.closed = true
	l.pair.Close()
}
