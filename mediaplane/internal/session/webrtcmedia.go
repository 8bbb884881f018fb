package session

import (
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/forward"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/icelite"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/udp"
)

func (l *webrtcLeg) receiveDTLS(b []byte, out *udp.Batch) {
	l.session.enter(out)
	defer l.session.leave()
	if !l.plan.client {
		l.shake()
	}
	switch {
	case l.closed || l.keyed && l.handshake == nil:
		// The association has done its work: a flight that was repeated, or the
		// browser's farewell.
		return
	case len(l.plan.fingerprints) == 0:
		l.session.node.metrics.drop(dropDTLSEarly)
		return
	case l.handshake == nil:
		l.session.node.metrics.drop(dropDTLS)
		return
	}
	l.handshake.Push(b)
}

func (l *webrtcLeg) receiveRTP(b []byte, path icelite.Path, out *udp.Batch) {
	s := l.session
	s.enter(out)
	defer s.leave()
	if l.closed || l.transform == nil {
		s.node.metrics.drop(dropNoKeys)
		return
	}
	plain, ok := s.unprotect(l.name, l.transform, b)
	if !ok {
		return
	}
	l.heard()
	s.source = path.Remote
	s.receive(l.name, plain)
}

func (l *webrtcLeg) receiveRTCP(b []byte, out *udp.Batch) {
	s := l.session
	s.enter(out)
	defer s.leave()
	if l.closed || l.transform == nil {
		s.node.metrics.drop(dropNoKeys)
		return
	}
	plain, err := l.transform.UnprotectRTCP(s.plain[:0], b)
	if err != nil {
		s.refuse(l.name, nil, err)
		return
	}
	l.heard()
	s.sync()
	if !s.table.ReceiveRTCP(l.name, plain, s.node.now()) {
		s.node.metrics.drop(dropMalformed)
	}
}

// heard: the browser has the keys, so it has finished its handshake.
func (l *webrtcLeg) heard() {
	if l.handshake != nil && l.keyed {
		l.abandon()
	}
}

func (l *webrtcLeg) sendRTP(packet []byte, ssrc uint32, index uint64) forward.SendResult {
	path := l.path.Load()
	if l.transform == nil || path == nil {
		return forward.NotReady
	}
	s := l.session
	protected, err := l.transform.Protect(s.cipher[:0], packet, ssrc, index)
	if err != nil {
		s.node.metrics.drop(protectFailure(err))
		return forward.Dropped
	}
	if err := s.node.mux.send(protected, *path, s.out); err != nil {
		s.node.metrics.drop(dropSend)
		return forward.Dropped
	}
	s.node.metrics.webrtcOut.Inc()
	return forward.Sent
}

func (l *webrtcLeg) sendRTCP(packet []byte) {
	path := l.path.Load()
	if l.transform == nil || path == nil {
		return
	}
	protected, err := l.transform.ProtectRTCP(l.session.cipher[:0], packet)
	if err != nil {
		return
	}
	_ = l.session.node.mux.send(protected, *path, l.session.out)
}
