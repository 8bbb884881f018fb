package srtp

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/transport/v4/replaydetector"
)

// Errors of a Transform.
var (
	// ErrDuplicate refuses to protect two packets with one index: with GCM and
	// counter mode that would reveal the key stream.
	ErrDuplicate = errors.New("a packet with this SSRC and index was protected already")
	// ErrReplay: the packet was received before, or is older than the window.
	ErrReplay = errors.New("replayed SRTP packet")
	// ErrAuth: the packet does not authenticate.
	ErrAuth = errors.New("SRTP packet does not authenticate")
)

const (
	// replayWindow in packets (RFC 3711 section 3.3.2 asks for at least 64).
	replayWindow = 512
	// restoreJump is added to the index of a restored outgoing source. The
	// checkpoint that it comes from can be old; the jump is larger than what a
	// source can have sent since, and stays below 2^15, so that the peer does
	// not guess a wrong rollover counter.
	restoreJump = 1 << 14
	// restoreRTCPJump is the same for SRTCP, whose index travels in the packet.
	restoreRTCPJump = 1 << 16
	// maxSources bounds the sources of one association: a browser that
	// changes its SSRC with every packet must not fill the node.
	maxSources = 1024

	maxIndex     = 1<<48 - 1
	maxRTCPIndex = 1<<31 - 1
)

// Source is how far one synchronisation source has come.
type Source struct {
	SSRC     uint32
	Outgoing bool
	// Index is the 48-bit SRTP packet index of the newest packet.
	Index uint64
	// RTCPIndex is the 31-bit SRTCP index used last; only of outgoing sources.
	RTCPIndex uint32
}

// Transform protects and unprotects the packets of one association. It is not
// safe for concurrent use.
type Transform struct {
	keys Keys
	out  *srtp.Context
	in   *receiver

	sent   map[uint32]*sentSource
	header rtp.Header
	// replayed is set by the replay detectors of in, which do not tell
	// otherwise why a packet was refused.
	replayed bool
	// before takes what the peer protected with the keys before the present
	// ones; nil when there were none or they are retired.
	before *receiver
}

// receiver is the incoming direction under one master key.
type receiver struct {
	context *srtp.Context
	sources map[uint32]*receivedSource
}

type sentSource struct {
	window Window
}

type receivedSource struct {
	index uint64
	// restored: the rollover counter comes from another node, no packet has
	// confirmed it here yet, and nothing up to floor is accepted again.
	restored bool
	floor    uint64
}

// NewTransform makes the transforms of keys. Sources of an association that was
// set up on another node go on from there.
func NewTransform(keys Keys, sources []Source) (*Transform, error) {
	if err := keys.Validate(); err != nil {
		return nil, err
	}
	t := &Transform{keys: keys}
	var err error
	if t.in, err = t.receiver(keys); err != nil {
		return nil, err
	}
	if err := t.sendWith(keys); err != nil {
		return nil, err
	}
	for _, s := range sources {
		if !s.Outgoing {
			t.in.sources[s.SSRC] = &receivedSource{index: s.Index, restored: true, floor: s.Index}
			continue
		}
		next := s.Index + restoreJump
		state := &sentSource{}
		state.window.Accept(next)
		t.sent[s.SSRC] = state
		t.out.SetROC(s.SSRC, uint32(next>>16))
		t.out.SetIndex(s.SSRC, s.RTCPIndex+restoreRTCPJump)
	}
	return t, nil
}

func (t *Transform) sendWith(keys Keys) error {
	n := keys.Profile.keyLen()
	out, err := srtp.CreateContext(keys.Local[:n], keys.Local[n:], keys.Profile.context())
	if err != nil {
		return fmt.Errorf("SRTP context for sending: %w", err)
	}
	t.out, t.sent = out, map[uint32]*sentSource{}
	return nil
}

func (t *Transform) receiver(keys Keys) (*receiver, error) {
	n := keys.Profile.keyLen()
	in, err := srtp.CreateContext(keys.Remote[:n], keys.Remote[n:], keys.Profile.context(),
		srtp.SRTPReplayDetectorFactory(t.detector(maxIndex)), srtp.SRTCPReplayDetectorFactory(t.detector(maxRTCPIndex)))
	if err != nil {
		return nil, fmt.Errorf("SRTP context for receiving: %w", err)
	}
	return &receiver{context: in, sources: map[uint32]*receivedSource{}}, nil
}

// Rekey changes to other keys. A direction whose master key stays goes on as it
// was, another one starts anew; sends tells that the outgoing one did, with
// rollover counter 0. What the peer still protects with the keys before is taken
// until Retire: its description and its packets do not change in step (RFC 4568
// section 7.1.4).
func (t *Transform) Rekey(keys Keys) (sends bool, err error) {
	if err := keys.Validate(); err != nil {
		return false, err
	}
	suite := keys.Profile != t.keys.Profile
	var in *receiver
	if suite || !bytes.Equal(keys.Remote, t.keys.Remote) {
		if in, err = t.receiver(keys); err != nil {
			return false, err
		}
	}
	if sends = suite || !bytes.Equal(keys.Local, t.keys.Local); sends {
		if err := t.sendWith(keys); err != nil {
			return false, err
		}
	}
	if in != nil {
		t.before, t.in = t.in, in
	}
	t.keys = keys
	return sends, nil
}

// Retire forgets the keys before the present ones.
func (t *Transform) Retire() { t.before = nil }

// Keys of the association.
func (t *Transform) Keys() Keys { return t.keys }

// Resume is the index after which an outgoing source must go on, if it was
// restored or has sent.
func (t *Transform) Resume(ssrc uint32) (index uint64, ok bool) {
	s, ok := t.sent[ssrc]
	if !ok {
		return 0, false
	}
	return s.window.Newest(), true
}

// Protect encrypts an RTP packet into dst. index is its 48-bit packet index,
// whose low 16 bits are its sequence number.
func (t *Transform) Protect(dst, packet []byte, ssrc uint32, index uint64) ([]byte, error) {
	s := t.sent[ssrc]
	if s == nil {
		s = &sentSource{}
		t.sent[ssrc] = s
		t.out.SetROC(ssrc, uint32(index>>16))
	}
	if !s.window.Accept(index) {
		return nil, ErrDuplicate
	}
	return t.out.EncryptRTP(dst, packet, &t.header)
}

// ProtectRTCP encrypts an RTCP packet into dst.
func (t *Transform) ProtectRTCP(dst, packet []byte) ([]byte, error) {
	return t.out.EncryptRTCP(dst, packet, nil)
}

// Unprotect decrypts an SRTP packet into dst: ErrReplay, ErrAuth.
func (t *Transform) Unprotect(dst, packet []byte) ([]byte, error) {
	if _, err := t.header.Unmarshal(packet); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAuth, err)
	}
	plain, err := t.unprotect(t.in, dst, packet)
	if t.before == nil || !errors.Is(err, ErrAuth) {
		return plain, err
	}
	ssrc, seq := t.header.SSRC, t.header.SequenceNumber
	if old := t.before.sources[ssrc]; old != nil && t.in.sources[ssrc] == nil && old.index>>16 != 0 {
		// Some peers let the rollover counter go on over a change of keys.
		t.in.context.SetROC(ssrc, uint32(Nearest(old.index, seq)>>16))
		if plain, err := t.unprotect(t.in, dst, packet); err == nil {
			t.in.sources[ssrc].index = Nearest(old.index, seq)
			return plain, nil
		}
		t.in.context.SetROC(ssrc, 0)
	}
	if plain, oldErr := t.unprotect(t.before, dst, packet); !errors.Is(oldErr, ErrAuth) {
		return plain, oldErr
	}
	return nil, err
}

func (t *Transform) unprotect(r *receiver, dst, packet []byte) ([]byte, error) {
	ssrc, seq := t.header.SSRC, t.header.SequenceNumber
	state := r.sources[ssrc]
	if state != nil && state.restored {
		index := Nearest(state.index, seq)
		if index <= state.floor {
			return nil, ErrReplay
		}
		r.context.SetROC(ssrc, uint32(index>>16))
	}
	if state == nil && len(r.sources) >= maxSources {
		return nil, fmt.Errorf("%w: more than %d sources", ErrAuth, maxSources)
	}
	t.replayed = false
	plain, err := r.context.DecryptRTP(dst, packet, &t.header)
	if err != nil {
		if t.replayed {
			return nil, ErrReplay
		}
		return nil, fmt.Errorf("%w: %w", ErrAuth, err)
	}
	if state == nil {
		state = &receivedSource{index: uint64(seq)}
		r.sources[ssrc] = state
	}
	state.restored = false
	if index := Nearest(state.index, seq); index > state.index {
		state.index = index
	}
	return plain, nil
}

// UnprotectRTCP decrypts an SRTCP packet into dst: ErrReplay, ErrAuth.
func (t *Transform) UnprotectRTCP(dst, packet []byte) ([]byte, error) {
	plain, err := t.unprotectRTCP(t.in, dst, packet)
	if t.before != nil && errors.Is(err, ErrAuth) {
		return t.unprotectRTCP(t.before, dst, packet)
	}
	return plain, err
}

func (t *Transform) unprotectRTCP(r *receiver, dst, packet []byte) ([]byte, error) {
	t.replayed = false
	plain, err := r.context.DecryptRTCP(dst, packet, nil)
	switch {
	case err == nil:
		return plain, nil
	case t.replayed:
		return nil, ErrReplay
	}
	return nil, fmt.Errorf("%w: %w", ErrAuth, err)
}

// Sources tells how far every source has come.
func (t *Transform) Sources() []Source {
	list := make([]Source, 0, len(t.sent)+len(t.in.sources))
	for ssrc, s := range t.sent {
		rtcp, _ := t.out.Index(ssrc)
		list = append(list, Source{SSRC: ssrc, Outgoing: true, Index: s.window.Newest(), RTCPIndex: rtcp})
	}
	for ssrc, s := range t.in.sources {
		list = append(list, Source{SSRC: ssrc, Index: s.index})
	}
	return list
}

func (t *Transform) detector(max uint64) func() replaydetector.ReplayDetector {
	return func() replaydetector.ReplayDetector {
		return &detector{window: replaydetector.New(replayWindow, max).(replayWindowDetector), refused: &t.replayed}
	}
}

type replayWindowDetector interface {
	replaydetector.ReplayDetector
	replaydetector.CheckAccepter
}

// detector notes that it refused a packet.
type detector struct {
	window  replayWindowDetector
	refused *bool
}

func (d *detector) Check(seq uint64) (func() bool, bool) {
	accept, ok := d.window.Check(seq)
	*d.refused = *d.refused || !ok
	return accept, ok
}

func (d *detector) CheckSeq(seq uint64) replaydetector.Token {
	token := d.window.CheckSeq(seq)
	*d.refused = *d.refused || !token.Passed()
	return token
}

func (d *detector) Accept(token replaydetector.Token) bool { return d.window.Accept(token) }

// RTCPIndex is the SRTCP index that was last used with an outgoing source.
func (t *Transform) RTCPIndex(ssrc uint32) uint32 {
	index, _ := t.out.Index(ssrc)
	return index
}

// Nearest extends a sequence number to the index closest to a known one
// (RFC 3711 section 3.3.1).
func Nearest(known uint64, seq uint16) uint64 {
	delta := int64(int16(seq - uint16(known)))
	if delta < 0 && uint64(-delta) > known {
		return known&^0xffff | uint64(seq)
	}
	return uint64(int64(known) + delta)
}

// windowSize in packets; a power of two.
const windowSize = 1024

// Window remembers which of the newest indices were used.
type Window struct {
	newest  uint64
	started bool
	bits    [windowSize / 64]uint64
}

// Newest index accepted.
func (w *Window) Newest() uint64 { return w.newest }

// Accept reports whether index is new, and notes it. Indices that fell out of
// the window are never accepted.
func (w *Window) Accept(index uint64) bool {
	switch {
	case !w.started:
		w.started = true
		w.newest = index
	case index > w.newest:
		if index-w.newest >= windowSize {
			clear(w.bits[:])
		} else {
			for i := w.newest + 1; i < index; i++ {
				w.clear(i)
			}
		}
		w.newest = index
	case w.newest-index >= windowSize || w.has(index):
		return false
	}
	slot := index % windowSize
	w.bits[slot/64] |= 1 << (slot % 64)
	return true
}

func (w *Window) has(index uint64) bool {
	slot := index % windowSize
	return w.bits[slot/64]&(1<<(slot%64)) != 0
}

func (w *Window) clear(index uint64) {
	slot := index % windowSize
	w.bits[slot/64] &^= 1 << (slot % 64)
}
