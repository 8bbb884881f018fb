//go:build linux

// Package liveframe sends packets at an exact rate from within the kernel, and
// counts those that come back, without a socket on the way: XDP programs run in
// live-frame mode (Linux 5.18), which reaches millions of packets a second on one
// core.
//
// Every stream sends in turn. A packet that is late follows the one before at no
// less than half the usual distance, and a schedule that is more than 200 µs
// behind is moved: there are no bursts. Frames of plain streams are made in the
// kernel; those of encrypted streams are put into a ring by user space, before
// the run or while it lasts.
//
// A Wire is used by one goroutine at a time, but for Samples and Append.
package liveframe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/isthmus-gateway/isthmus/loadtest/histogram"
)

// MaxFrame is the longest frame in bytes, from the Ethernet header on.
const MaxFrame = 320

// Offsets of the frame's parts that are sent.
const (
	rtpHeader = 12
	stamp     = 24
)

// Stream is one source of packets.
type Stream struct {
	// Frame from the Ethernet header on, IPv4 without options or IPv6 without
	// extensions, UDP, RTP without CSRC or extension. Of a stream that is not
	// Ring it is the template: its RTP sequence number and time stamp are
	// replaced, so are bytes 8 to 23 of the payload: packet number and sending
	// time, 64 bits each.
	Frame []byte
	// Ring says that every frame comes by Append.
	Ring bool
	// Sequence number of packet 0.
	Sequence uint16
	// Clock of the time stamps, in Hz.
	Clock uint32
}

// Receiver is where the packets of a stream come back.
type Receiver struct {
	At     netip.AddrPort
	Stream int
}

// Config of a Wire.
type Config struct {
	// Interface that packets leave and arrive by. It must be in the network
	// namespace of the calling thread, here and in Run.
	Interface string
	Streams   []Stream
	Receivers []Receiver
	// Ring is how many frames Append can hold; rounded up to a power of two.
	Ring int
}

// Wire is a generator and its sink on one interface.
type Wire struct {
	objects objectObjects
	link    link.Link
	index   int
	streams int
	frames  *ebpf.Memory
	memory  *ebpf.Memory // of the receivers
	states  *ebpf.Memory // of the streams
	ring    int
	longest int
	samples *ringbuf.Reader
	count   int
	made    uint64
}

// ErrUnsupported says that this process or kernel cannot send live frames.
var ErrUnsupported = errors.New("live frames need Linux 5.18 with BPF, CAP_NET_ADMIN and CAP_BPF")

// Open loads the programs and attaches the sink.
func Open(c Config) (_ *Wire, err error) {
	device, err := net.InterfaceByName(c.Interface)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", c.Interface, err)
	}
	spec, err := loadObject()
	if err != nil {
		return nil, err
	}
	w := &Wire{index: device.Index, streams: len(c.Streams), ring: power(c.Ring), count: len(c.Receivers)}
	// About 2^18 sending times in all, but no less than 64 of a stream.
	shift := uint32(6)
	for len(c.Streams)<<(shift+1) <= 1<<18 && shift < 12 {
		shift++
	}
	for name, entries := range map[string]int{
		objectMapStreams: len(c.Streams), objectMapFrames: w.ring, objectMapMoments: len(c.Streams) << shift,
		objectMapEndpoints: max(len(c.Receivers), 1), objectMapReceivers: max(len(c.Receivers), 1),
	} {
		spec.Maps[name].MaxEntries = uint32(entries)
	}
	for name, value := range map[string]uint32{
		objectVarStreamsUsed: uint32(len(c.Streams)), objectVarRingFrames: uint32(w.ring), objectVarDepthShift: shift,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, err
		}
	}
	if err := spec.LoadAndAssign(&w.objects, nil); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	for _, m := range []struct {
		memory **ebpf.Memory
		of     *ebpf.Map
	}{{&w.frames, w.objects.Frames}, {&w.memory, w.objects.Receivers}, {&w.states, w.objects.Streams}} {
		if *m.memory, err = m.of.Memory(); err != nil {
			return nil, err
		}
	}
	if err := w.fill(c); err != nil {
		return nil, err
	}
	if w.samples, err = ringbuf.NewReader(w.objects.Samples); err != nil {
		return nil, err
	}
	if w.link, err = link.AttachXDP(link.XDPOptions{Program: w.objects.Receive, Interface: device.Index, Flags: link.XDPDriverMode}); err != nil {
		return nil, fmt.Errorf("%w: attach to %s: %w", ErrUnsupported, c.Interface, err)
	}
	return w, nil
}

func power(n int) int {
	p := 1
	for p < n {
		p <<= 1
	}
	return p
}

// fill puts streams and receivers into the maps.
func (w *Wire) fill(c Config) error {
	for i, s := range c.Streams {
		layout, err := parse(s.Frame)
		if err != nil {
			return fmt.Errorf("stream %d: %w", i, err)
		}
		w.longest = max(w.longest, len(s.Frame))
		v := objectStream{
			Length: uint32(len(s.Frame)), Rtp: uint32(layout.rtp), UdpCsum: uint32(layout.checksum),
			Sequence: uint32(s.Sequence), Clock: s.Clock,
		}
		if s.Ring {
			v.Kind = 1
		}
		copy(v.Frame[:], s.Frame)
		v.Sum = layout.fixed(s.Frame)
		if err := w.objects.Streams.Put(uint32(i), &v); err != nil {
			return err
		}
	}
	for i, r := range c.Receivers {
		e := objectEndpoint{Address: r.At.Addr().As16()}
		e.Port = binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, r.At.Port()))
		if err := w.objects.Endpoints.Update(&e, uint32(i), ebpf.UpdateNoExist); err != nil {
			return fmt.Errorf("receiver %s: %w", r.At, err)
		}
		if err := w.objects.Receivers.Put(uint32(i), &objectReceiver{Stream: uint32(r.Stream)}); err != nil {
			return err
		}
	}
	return nil
}

// Close detaches the sink and frees everything.
func (w *Wire) Close() {
	if w.link != nil {
		_ = w.link.Close()
	}
	if w.samples != nil {
		_ = w.samples.Close()
	}
	_ = w.objects.Close()
}

// Bounce is the program that sends every UDP packet back unchanged. It is the
// caller's to attach, and is closed with the Wire.
func (w *Wire) Bounce() *ebpf.Program { return w.objects.Bounce }

// Append puts the next frame of the encrypted streams, in their turn, into the
// ring. It answers false when the ring is full.
func (w *Wire) Append(frame []byte) (bool, error) {
	if len(frame) > MaxFrame {
		return false, fmt.Errorf("a frame of %d bytes, at most %d", len(frame), MaxFrame)
	}
	var consumed uint64
	if err := w.objects.Consumed.Get(&consumed); err != nil {
		return false, err
	}
	if w.made-consumed >= uint64(w.ring) {
		return false, nil
	}
	var b [8 + MaxFrame]byte
	binary.NativeEndian.PutUint32(b[:], uint32(len(frame)))
	n := copy(b[8:], frame)
	if _, err := w.frames.WriteAt(b[:8+n], int64(w.made%uint64(w.ring))*int64(len(b))); err != nil {
		return false, err
	}
	w.made++
	return true, w.objects.Produced.Set(w.made)
}

// Pending frames of the ring.
func (w *Wire) Pending() uint64 {
	var consumed uint64
	_ = w.objects.Consumed.Get(&consumed)
	return w.made - consumed
}

// Load says how much to send.
type Load struct {
	// Rate in packets a second, of all streams together.
	Rate float64
	// Packets in all.
	Packets uint64
	// Time is the RTP time stamp of each stream at the start of the run; nil
	// leaves them.
	Time []uint32
	// SampleEvery hands every so many-th packet received to Samples; 0: none but
	// those of unknown sources.
	SampleEvery uint32
	// Prompt packets leave within 2 µs. Others may wait for 10 µs more, which
	// lets the kernel use its pages again and so reaches twice the rate.
	Prompt bool
}

// batch is how many calls of the program the kernel makes between two times that
// it lets packets go. It also keeps that many pages for use again.
func (l Load) batch() uint32 {
	if l.Prompt {
		return 16
	}
	return 256
}

// Sent is what a run did.
type Sent struct {
	Packets uint64
	Took    time.Duration
	// Moved is how far the schedule was moved because the machine was late.
	Moved time.Duration
	// Starved counts the looks at an empty ring.
	Starved uint64
}

// Run sends. The goroutine must be locked to its thread, and that be in the
// namespace of the interface. It ends early with ctx.
func (w *Wire) Run(ctx context.Context, l Load) (Sent, error) {
	if l.Rate <= 0 {
		return Sent{}, fmt.Errorf("a rate of %g packets a second", l.Rate)
	}
	for i, t := range l.Time {
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], t)
		if _, err := w.states.WriteAt(b[:], int64(i)*int64(binary.Size(objectStream{}))+28); err != nil {
			return Sent{}, err
		}
	}
	o := &w.objects
	if err := errors.Join(
		o.Gap.Set(uint64(1024e9/l.Rate)), o.SampleEvery.Set(l.SampleEvery), o.Sent.Set(uint64(0)), o.Moved.Set(uint64(0)),
		o.Starved.Set(uint64(0)), o.Started.Set(uint64(0)), o.Limit.Set(l.Packets),
	); err != nil {
		return Sent{}, err
	}
	stop := make(chan struct{})
	go w.interrupt(ctx, unix.Gettid(), l.Packets, stop)
	err := w.test(l.batch())
	close(stop)
	if err != nil {
		return Sent{}, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	var sent Sent
	var last, moved uint64
	err = errors.Join(o.Sent.Get(&sent.Packets), o.Last.Get(&last), o.Moved.Get(&moved), o.Starved.Get(&sent.Starved))
	sent.Took = time.Duration(last>>10 + uint64(1e9/l.Rate))
	sent.Moved = time.Duration(moved)
	return sent, err
}

// interrupt ends the system call of a thread when everything is sent. Programs
// cannot end a test run, and to make many short ones would cost a pause of some
// 10 ms each.
func (w *Wire) interrupt(ctx context.Context, thread int, packets uint64, stop chan struct{}) {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	var sent uint64
	for {
		select {
		case <-stop:
			return
		case <-look.C:
		}
		if err := w.objects.Sent.Get(&sent); err != nil || sent >= packets || ctx.Err() != nil {
			// Go's runtime does nothing at SIGURG but to look around.
			_ = unix.Tgkill(os.Getpid(), thread, unix.SIGURG)
		}
	}
}

// testRun is the part of union bpf_attr that BPF_PROG_TEST_RUN reads.
type testRun struct {
	program, result      uint32
	sizeIn, sizeOut      uint32
	in, out              uint64
	repeat, duration     uint32
	contextIn, contextTo uint32
	context, contextOut  uint64
	flags, cpu, batch    uint32
	_                    uint32
}

// Constants of linux/bpf.h.
const (
	progTestRun      = 10
	liveFrames       = 1 << 1
	contextSize      = 24 // of struct xdp_md
	contextDataEnd   = 4
	contextInterface = 12
)

// test runs the program over and over until a signal comes.
func (w *Wire) test(batch uint32) error {
	// Longer than any packet, so that each changes the length: the kernel does not
	// see that a page which comes back was left shorter by whoever had it, unless
	// the program touched its bounds too (reset_ctx in net/bpf/test_run.c).
	data := make([]byte, w.longest+4)
	md := make([]byte, contextSize)
	binary.NativeEndian.PutUint32(md[contextDataEnd:], uint32(len(data)))
	binary.NativeEndian.PutUint32(md[contextInterface:], uint32(w.index))
	attr := testRun{
		program: uint32(w.objects.Send.FD()), sizeIn: uint32(len(data)), in: uint64(uintptr(unsafe.Pointer(&data[0]))),
		contextIn: contextSize, context: uint64(uintptr(unsafe.Pointer(&md[0]))), repeat: 1<<32 - 1, flags: liveFrames,
		batch: batch,
	}
	_, _, errno := unix.Syscall(unix.SYS_BPF, progTestRun, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(data)
	runtime.KeepAlive(md)
	if errno != 0 && errno != unix.EINTR {
		return errno
	}
	return nil
}

// Received is what arrived at one receiver.
type Received struct {
	Packets, Bytes        uint64
	Duplicates, Reordered uint64
	// Stale packets were under way for longer than sending times are kept.
	Stale uint64
	// Strange packets had another SSRC than the one learned.
	Strange uint64
	// Unlearned packets came before Learn; they are in Samples only.
	Unlearned uint64
}

// Learn tells how a receiver's packets look: their SSRC, and how their RTP
// sequence numbers differ from packet numbers. Only then are they counted.
func (w *Wire) Learn(receiver int, ssrc uint32, delta uint16, highest uint32) error {
	var b [16]byte
	binary.NativeEndian.PutUint32(b[0:], ssrc)
	binary.NativeEndian.PutUint32(b[4:], uint32(delta))
	binary.NativeEndian.PutUint32(b[12:], highest)
	at := int64(receiver)*int64(binary.Size(objectReceiver{})) + 4
	if _, err := w.memory.WriteAt(append(b[:8:8], 0, 0, 0, 0), at); err != nil {
		return err
	}
	if _, err := w.memory.WriteAt(b[12:16], at+12); err != nil {
		return err
	}
	binary.NativeEndian.PutUint32(b[8:], 1)
	_, err := w.memory.WriteAt(b[8:12], at+8)
	return err
}

// Received reads the counters of a receiver.
func (w *Wire) Received(receiver int) (Received, error) {
	b := make([]byte, binary.Size(objectReceiver{}))
	if _, err := w.memory.ReadAt(b, int64(receiver)*int64(len(b))); err != nil {
		return Received{}, err
	}
	u := func(i int) uint64 { return binary.NativeEndian.Uint64(b[32+8*i:]) }
	return Received{Packets: u(0), Bytes: u(1), Duplicates: u(2), Reordered: u(3), Stale: u(4), Strange: u(5), Unlearned: u(6)}, nil
}

// Total is the sum of all receivers.
func (w *Wire) Total() (Received, error) {
	var t Received
	for i := range w.count {
		r, err := w.Received(i)
		if err != nil {
			return t, err
		}
		t.Packets += r.Packets
		t.Bytes += r.Bytes
		t.Duplicates += r.Duplicates
		t.Reordered += r.Reordered
		t.Stale += r.Stale
		t.Strange += r.Strange
		t.Unlearned += r.Unlearned
	}
	return t, nil
}

// Sent is how many packets the present run has sent.
func (w *Wire) Sent() uint64 {
	var n uint64
	_ = w.objects.Sent.Get(&n)
	return n
}

// Number of the next packet of a stream: how many it has sent since Open.
func (w *Wire) Number(stream int) uint64 {
	var b [4]byte
	_, _ = w.states.ReadAt(b[:], int64(stream)*int64(binary.Size(objectStream{}))+8)
	return uint64(binary.NativeEndian.Uint32(b[:]))
}

// Foreign is how many RTP packets came to no receiver.
func (w *Wire) Foreign() uint64 {
	var n uint64
	_ = w.objects.Foreign.Get(&n)
	return n
}

// Histograms of latency and of the change of latency from one packet of a stream
// to the next, since the last Reset.
func (w *Wire) Histograms() (latency, jitter *histogram.Histogram, err error) {
	latency, err = read(w.objects.Latency)
	if err == nil {
		jitter, err = read(w.objects.Jitter)
	}
	return latency, jitter, err
}

func read(m *ebpf.Map) (*histogram.Histogram, error) {
	h := new(histogram.Histogram)
	var perCPU []uint64
	for i := range uint32(histogram.Buckets) {
		if err := m.Lookup(i, &perCPU); err != nil {
			return nil, err
		}
		for _, n := range perCPU {
			if n > 0 {
				h.AddMany(int(i), n)
			}
		}
	}
	return h, nil
}

// Reset empties the histograms.
func (w *Wire) Reset() error {
	zero := make([]uint64, ebpf.MustPossibleCPU())
	for _, m := range []*ebpf.Map{w.objects.Latency, w.objects.Jitter} {
		for i := range uint32(histogram.Buckets) {
			if err := m.Put(i, zero); err != nil {
				return err
			}
		}
	}
	return nil
}

// Sample is one packet that arrived.
type Sample struct {
	// At is when, in nanoseconds of CLOCK_MONOTONIC.
	At       uint64
	Receiver int
	// Frame from the Ethernet header on; valid until the next one.
	Frame []byte
}

// Samples calls f for every packet that is handed up until ctx ends.
func (w *Wire) Samples(ctx context.Context, f func(Sample)) error {
	var r ringbuf.Record
	for ctx.Err() == nil {
		w.samples.SetDeadline(time.Now().Add(20 * time.Millisecond))
		err := w.samples.ReadInto(&r)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case errors.Is(err, ringbuf.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		length := binary.NativeEndian.Uint32(r.RawSample[12:])
		f(Sample{
			At: binary.NativeEndian.Uint64(r.RawSample), Receiver: int(binary.NativeEndian.Uint32(r.RawSample[8:])),
			Frame: r.RawSample[16 : 16+length],
		})
	}
	return nil
}
