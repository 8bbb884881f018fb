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
	// replayWindow of SRTCP in packets (RFC 3711 section 3.3.2 asks for at
	// least 64).
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

	sent   map[uint32]*source
	header rtp.Header
	// replayed is set by the SRTCP replay detectors of in, which do not tell
	// otherwise why a packet was refused.
	replayed bool
	// before takes what the peer protected with the keys before the present
	// ones; nil when there were none or they are retired.
	before *receiver
}

// receiver is the incoming direction under one master key.
type receiver struct {
	context *srtp.Context
	sources map[uint32]*source
}

// source is one SSRC of one direction.
type source struct {
	window Window
	// newest index that is known. It is ahead of the window while somebody else
	// protects or unprotects packets of the source.
	newest uint64
	// foreign: newest was not reached here, so the rollover counter of the
	// context has to be set.
	foreign bool
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
			t.in.sources[s.SSRC] = restored(s.Index)
			continue
		}
		t.sent[s.SSRC] = restored(s.Index + restoreJump)
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
	t.out, t.sent = out, map[uint32]*source{}
	return nil
}

func (t *Transform) receiver(keys Keys) (*receiver, error) {
	n := keys.Profile.keyLen()
	in, err := srtp.CreateContext(keys.Remote[:n], keys.Remote[n:], keys.Profile.context(),
		srtp.SRTCPReplayDetectorFactory(t.detector(maxRTCPIndex)))
	if err != nil {
		return nil, fmt.Errorf("SRTP context for receiving: %w", err)
	}
	return &receiver{context: in, sources: map[uint32]*source{}}, nil
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

// restored is a source that came to index elsewhere: whatever is not newer counts
// as used.
func restored(index uint64) *source {
	s := &source{newest: index, foreign: true}
	s.window.Fill(index)
	return s
}

// Keys of the association.
func (t *Transform) Keys() Keys { return t.keys }

// Resume is the index after which an outgoing source must go on, if it was
// restored or has sent.
func (t *Transform) Resume(ssrc uint32) (index uint64, ok bool) {
	s, ok := t.sent[ssrc]
	if !ok {
		return 0, false
	}
	return s.newest, true
}

// Protect encrypts an RTP packet into dst. index is its 48-bit packet index,
// whose low 16 bits are its sequence number.
func (t *Transform) Protect(dst, packet []byte, ssrc uint32, index uint64) ([]byte, error) {
	s := t.sent[ssrc]
	if s == nil {
		s = &source{foreign: true}
		t.sent[ssrc] = s
	}
	if !s.window.Accept(index) {
		return nil, ErrDuplicate
	}
	if s.foreign {
		t.out.SetROC(ssrc, uint32(index>>16))
		s.foreign = false
	}
	s.newest = max(s.newest, index)
	return t.out.EncryptRTP(dst, packet, &t.header)
}

// ProtectRTCP encrypts an RTCP packet into dst.
func (t *Transform) ProtectRTCP(dst, packet []byte) ([]byte, error) {
	return t.out.EncryptRTCP(dst, packet, nil)
}

// Unprotect decrypts an SRTP packet into dst: ErrReplay, ErrAuth.
func (t *Transform) Unprotect(dst, packet []byte) ([]byte, error) {
	plain, by, index, err := t.open(dst, packet)
	if err != nil {
		return nil, err
	}
	s := by.sources[t.header.SSRC]
	if s == nil {
		s = &source{}
		by.sources[t.header.SSRC] = s
	}
	s.window.Accept(index)
	s.newest, s.foreign = max(s.newest, index), false
	return plain, nil
}

// Authenticate says whether Unprotect would accept a packet, which stays new, and
// as which index. scratch is overwritten.
func (t *Transform) Authenticate(scratch, packet []byte) (index uint64, err error) {
	_, _, index, err = t.open(scratch, packet)
	return index, err
}

// open decrypts a packet, and tells under which keys and with which index.
func (t *Transform) open(dst, packet []byte) (plain []byte, by *receiver, index uint64, err error) {
	if _, err := t.header.Unmarshal(packet); err != nil {
		return nil, nil, 0, fmt.Errorf("%w: %w", ErrAuth, err)
	}
	plain, index, err = t.openBy(t.in, dst, packet)
	if t.before == nil || !errors.Is(err, ErrAuth) {
		return plain, t.in, index, err
	}
	ssrc, seq := t.header.SSRC, t.header.SequenceNumber
	if old := t.before.sources[ssrc]; old != nil && t.in.sources[ssrc] == nil && old.newest>>16 != 0 {
		// Some peers let the rollover counter go on over a change of keys.
		index = Nearest(old.newest, seq)
		t.in.context.SetROC(ssrc, uint32(index>>16))
		if plain, err := t.in.context.DecryptRTP(dst, packet, &t.header); err == nil {
			return plain, t.in, index, nil
		}
		t.in.context.SetROC(ssrc, 0)
	}
	plain, index, oldErr := t.openBy(t.before, dst, packet)
	if errors.Is(oldErr, ErrAuth) {
		return nil, nil, 0, err
	}
	return plain, t.before, index, oldErr
}

func (t *Transform) openBy(r *receiver, dst, packet []byte) (plain []byte, index uint64, err error) {
	ssrc, seq := t.header.SSRC, t.header.SequenceNumber
	index = uint64(seq)
	switch s := r.sources[ssrc]; {
	case s != nil:
		if index = Nearest(s.newest, seq); !s.window.Fresh(index) {
			return nil, 0, ErrReplay
		}
		if s.foreign {
			r.context.SetROC(ssrc, uint32(index>>16))
		}
	case len(r.sources) >= maxSources:
		return nil, 0, fmt.Errorf("%w: more than %d sources", ErrAuth, maxSources)
	}
	if plain, err = r.context.DecryptRTP(dst, packet, &t.header); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrAuth, err)
	}
	return plain, index, nil
}

// Received is the newest index of a source that packets come from.
func (t *Transform) Received(ssrc uint32) (index uint64, ok bool) {
	s := t.in.sources[ssrc]
	if s == nil {
		return 0, false
	}
	return s.newest, true
}

// Follow notes that somebody else, who has the same keys, has brought a source to
// index.
func (t *Transform) Follow(ssrc uint32, outgoing bool, index uint64) {
	if s := t.source(ssrc, outgoing); s != nil && index > s.newest {
		s.newest, s.foreign = index, true
	}
}

// Restore makes a source go on after index exactly: it is known that nobody else
// uses a later one, and whatever is not newer counts as used.
func (t *Transform) Restore(ssrc uint32, outgoing bool, index uint64) {
	if outgoing {
		t.sent[ssrc] = restored(index)
		return
	}
	t.in.sources[ssrc] = restored(index)
}

// Take goes on from where somebody else has brought a source, who had it from
// floor on: of the indices in between those count as used that used says.
func (t *Transform) Take(ssrc uint32, outgoing bool, floor, index uint64, used func(uint64) bool) {
	t.Follow(ssrc, outgoing, index)
	if s := t.source(ssrc, outgoing); s != nil {
		s.window.Merge(floor, index, used)
	}
}

func (t *Transform) source(ssrc uint32, outgoing bool) *source {
	if outgoing {
		return t.sent[ssrc]
	}
	return t.in.sources[ssrc]
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
		list = append(list, Source{SSRC: ssrc, Outgoing: true, Index: s.newest, RTCPIndex: rtcp})
	}
	for ssrc, s := range t.in.sources {
		list = append(list, Source{SSRC: ssrc, Index: s.newest})
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
