package media

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// A payload begins with a stamp: the run (32 bits), the stream (32), the number
// of the packet in its stream (64) and when it was sent, in nanoseconds of
// CLOCK_MONOTONIC (64; 0 when it was encrypted ahead of its time). What follows
// is a pattern of the stream's own.
const stampSize = 24

// headerSize is that of an RTP header without CSRC and extension.
const headerSize = 12

// source makes the packets of one stream.
type source struct {
	stream  Stream
	codec   Codec
	header  rtp.Header
	packet  []byte // plain
	number  uint64
	context *srtp.Context // nil: plain RTP
	out     []byte
}

func newSource(run, index uint32, s Stream, c Codec, keys *Keys) (*source, error) {
	src := &source{
		stream: s, codec: c,
		header: rtp.Header{Version: 2, PayloadType: c.PayloadType, SSRC: s.SSRC, SequenceNumber: s.Sequence},
		packet: make([]byte, headerSize+c.Payload),
	}
	payload := src.packet[headerSize:]
	binary.BigEndian.PutUint32(payload, run)
	binary.BigEndian.PutUint32(payload[4:], index)
	pattern(payload[stampSize:], run, index)
	if keys != nil {
		var err error
		if src.context, err = srtpContext(keys.Profile, keys.Send); err != nil {
			return nil, err
		}
	}
	return src, nil
}

func srtpContext(profile srtp.ProtectionProfile, master []byte) (*srtp.Context, error) {
	key, err := profile.KeyLen()
	if err != nil {
		return nil, err
	}
	return srtp.CreateContext(master[:key], master[key:], profile)
}

// pattern fills b with bytes that no other stream has.
func pattern(b []byte, run, index uint32) {
	x := uint64(run)<<32 | uint64(index) | 1
	for i := range b {
		// xorshift64: https://www.jstatsoft.org/article/view/v008i14
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 32)
	}
}

// next is the packet after the one before, as it goes out: it is valid until the
// call after. The stamp says sent; time is the RTP time stamp.
func (s *source) next(sent uint64, time uint32) ([]byte, error) {
	s.header.SequenceNumber = s.stream.Sequence + uint16(s.number)
	s.header.Timestamp = time
	if _, err := s.header.MarshalTo(s.packet); err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint64(s.packet[headerSize+8:], s.number)
	binary.BigEndian.PutUint64(s.packet[headerSize+16:], sent)
	s.number++
	if s.context == nil {
		return s.packet, nil
	}
	var err error
	s.out, err = s.context.EncryptRTP(s.out[:0], s.packet, &s.header)
	return s.out, err
}

// opened is what a packet that arrived says.
type opened struct {
	ssrc     uint32
	sequence uint16
	number   uint64
	sent     uint64
}

// Why a packet that arrived is none of the stream.
var (
	errForeign = errors.New("not a packet of this run and stream")
	errAuth    = errors.New("SRTP authentication failed")
	errCorrupt = errors.New("the payload is not what was sent")
)

// opener reads the packets that arrive at an endpoint.
type opener struct {
	run, index uint32
	codec      Codec
	pattern    []byte
	context    *srtp.Context
	header     rtp.Header
	out        []byte
}

func newOpener(run, index uint32, c Codec, keys *Keys) (*opener, error) {
	o := &opener{run: run, index: index, codec: c, pattern: make([]byte, c.Payload-stampSize)}
	pattern(o.pattern, run, index)
	if keys == nil {
		return o, nil
	}
	var err error
	// Replays are counted as duplicates, so the context must let them pass.
	o.context, err = srtpContext(keys.Profile, keys.Receive)
	return o, err
}

// open authenticates, decrypts and compares.
func (o *opener) open(packet []byte) (opened, error) {
	n, err := o.header.Unmarshal(packet)
	if err != nil {
		return opened{}, fmt.Errorf("%w: %w", errForeign, err)
	}
	got := opened{ssrc: o.header.SSRC, sequence: o.header.SequenceNumber}
	if o.context != nil {
		if o.out, err = o.context.DecryptRTP(o.out[:0], packet, &o.header); err != nil {
			return got, fmt.Errorf("%w: %w", errAuth, err)
		}
		packet = o.out
	}
	payload := packet[n:]
	if len(payload) < stampSize || binary.BigEndian.Uint32(payload) != o.run || binary.BigEndian.Uint32(payload[4:]) != o.index {
		return got, errForeign
	}
	got.number = binary.BigEndian.Uint64(payload[8:])
	got.sent = binary.BigEndian.Uint64(payload[16:])
	if o.header.PayloadType != o.codec.PayloadType || string(payload[stampSize:]) != string(o.pattern) {
		return got, errCorrupt
	}
	return got, nil
}
