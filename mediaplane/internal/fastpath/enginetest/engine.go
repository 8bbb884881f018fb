// Package enginetest is an engine in plain Go for tests: it executes plans from
// the plan alone, with no more knowledge than a kernel has, and pion's SRTP. What
// it does with a packet is what every engine has to do with it.
//
// Nothing arrives at it by itself: whoever tests shows it each packet first, and
// gives the node those that it leaves.
package enginetest

import (
	"context"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/srtp/v3"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
)

// Limits of what an engine takes for one sequence, and for one time line.
const (
	MaxAhead  = 3000
	MaxOffset = 3 * time.Second
)

// Verdict is what the engine does with a packet.
type Verdict uint8

// Verdicts.
const (
	// PassedUp is left to user space.
	PassedUp Verdict = iota
	// Forwarded was sent as Datagram says.
	Forwarded
	// Dropped was counted.
	Dropped
)

// Datagram is a packet that the engine sends.
type Datagram struct {
	From, To netip.AddrPort
	Payload  []byte
}

// Engine is a fastpath.Engine.
type Engine struct {
	now func() int64
	// Refuse makes Upsert refuse plans with the reason that it answers.
	Refuse func(fastpath.Plan) fastpath.Reason

	mu      sync.Mutex
	flows   map[fastpath.Key]*flow
	adopted []fastpath.Adopted
	upserts int
}

type flow struct {
	plan     fastpath.Plan
	position fastpath.Position
	in, out  *srtp.Context
}

var _ fastpath.Engine = (*Engine)(nil)

// New makes an engine. now is CLOCK_MONOTONIC in nanoseconds.
func New(now func() int64) *Engine {
	return &Engine{now: now, flows: map[fastpath.Key]*flow{}}
}

// Name is that of the kernel's engine, for which it stands.
func (*Engine) Name() string { return "xdp" }

// Reason is empty.
func (*Engine) Reason() string { return "" }

// Start does nothing.
func (*Engine) Start(context.Context) error { return nil }

// Close does nothing.
func (*Engine) Close() error { return nil }

// Causes has none.
func (*Engine) Causes(func(string, uint64) bool) {}

// Context is a context of pion with the keys of c; nil for none.
func Context(c *fastpath.Crypto) *srtp.Context {
	if c == nil {
		return nil
	}
	profile, key := srtp.ProtectionProfileAes128CmHmacSha1_80, 16
	switch c.Profile {
	case fastpath.AES128GCM:
		profile = srtp.ProtectionProfileAeadAes128Gcm
	case fastpath.AES256GCM:
		profile, key = srtp.ProtectionProfileAeadAes256Gcm, 32
	}
	context, err := srtp.CreateContext(c.Master[:key], c.Master[key:], profile)
	if err != nil {
		panic(err)
	}
	return context
}

// Upsert takes a plan.
func (e *Engine) Upsert(p fastpath.Plan) (fastpath.Reason, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.Refuse != nil {
		if reason := e.Refuse(p); reason != "" {
			return reason, false
		}
	}
	if e.flows[p.Key] != nil {
		return "the key has a plan", false
	}
	f := &flow{plan: p, in: Context(p.In), out: Context(p.Out)}
	f.position = fastpath.Position{Index: p.Start.Index, Timestamp: p.Start.Timestamp, LastSeen: p.Start.LastSeen, Jitter: p.Start.Jitter}
	e.flows[p.Key] = f
	e.upserts++
	return "", true
}

// Upserts counts the plans that were taken so far.
func (e *Engine) Upserts() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.upserts
}

// Plans are those in force.
func (e *Engine) Plans() []fastpath.Plan {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]fastpath.Plan, 0, len(e.flows))
	for _, f := range e.flows {
		list = append(list, f.plan)
	}
	return list
}

// Remove gives a plan back.
func (e *Engine) Remove(k fastpath.Key) (fastpath.Position, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := e.flows[k]
	if f == nil {
		return fastpath.Position{}, false
	}
	delete(e.flows, k)
	return f.position, true
}

// Lose forgets a plan, as no engine should.
func (e *Engine) Lose(k fastpath.Key) { e.Remove(k) }

// Position of a plan.
func (e *Engine) Position(k fastpath.Key) (fastpath.Position, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := e.flows[k]
	if f == nil {
		return fastpath.Position{}, false
	}
	return f.position, true
}

// Stats of every plan.
func (e *Engine) Stats(yield func(fastpath.Key, fastpath.Position) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for k, f := range e.flows {
		if !yield(k, f.position) {
			return
		}
	}
}

// Restart makes the plans in force those that another process left.
func (e *Engine) Restart() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.adopted = nil
	for _, f := range e.flows {
		a := fastpath.Adopted{Plan: f.plan, In: f.plan.In.Fingerprint(), Out: f.plan.Out.Fingerprint()}
		a.Plan.In, a.Plan.Out = nil, nil
		a.Start = f.position
		e.adopted = append(e.adopted, a)
	}
}

// Adopted plans of the process before.
func (e *Engine) Adopted() []fastpath.Adopted {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.adopted
}

// Receive shows a packet to the engine.
func (e *Engine) Receive(local, remote netip.AddrPort, packet []byte) (Datagram, Verdict) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(packet) < 12 || packet[0]>>6 != 2 || packet[1] >= 192 && packet[1] <= 223 {
		return Datagram{}, PassedUp
	}
	f := e.flows[fastpath.Key{Local: local, Remote: remote, SSRC: binary.BigEndian.Uint32(packet[8:])}]
	if f == nil {
		return Datagram{}, PassedUp
	}
	out, verdict := f.forward(packet, e.now())
	if verdict == PassedUp {
		f.position.PassedUp++
	}
	return Datagram{From: f.plan.From, To: f.plan.To, Payload: out}, verdict
}

func (f *flow) forward(packet []byte, now int64) ([]byte, Verdict) {
	p, pos := &f.plan, &f.position
	payload := p.Payloads[packet[1]&0x7f]
	timestamp := binary.BigEndian.Uint32(packet[4:])
	delta := int64(int16(binary.BigEndian.Uint16(packet[2:]) - uint16(pos.Index)))
	index := uint64(int64(pos.Index) + delta)
	rate := time.Duration(p.ClockRate)
	elapsed := time.Duration(now - pos.LastSeen)
	moved := time.Duration(int32(timestamp-pos.Timestamp)) * time.Second / rate
	start, clean := payloadOf(packet)
	switch {
	case payload < 0, !clean, delta > MaxAhead, delta <= -fastpath.WindowSize, index <= p.Start.Index:
		return nil, PassedUp
	case pos.LastSeen != 0 && (moved > elapsed+MaxOffset || delta > 0 && moved < -MaxOffset):
		return nil, PassedUp
	case pos.Took(index):
		pos.Replays++
		return nil, Dropped
	}

	plain := append([]byte(nil), packet...)
	if f.in != nil {
		var err error
		f.in.SetROC(p.Key.SSRC, uint32(index>>16))
		if plain, err = f.in.DecryptRTP(nil, packet, nil); err != nil {
			pos.AuthFailures++
			return nil, Dropped
		}
	}
	if delta > 0 {
		if pos.LastSeen != 0 {
			late := elapsed - moved
			if late < 0 {
				late = -late
			}
			pos.Jitter += (late - pos.Jitter) / 16
		}
		f.slide(delta)
		pos.Index, pos.Timestamp, pos.LastSeen = index, timestamp, now
	}
	back := pos.Index - index
	pos.Window[back/64] |= 1 << (back % 64)

	plain[1] = plain[1]&0x80 | byte(payload)
	out := uint64(int64(index) + p.IndexOffset)
	binary.BigEndian.PutUint16(plain[2:], uint16(out))
	binary.BigEndian.PutUint32(plain[4:], timestamp+p.TimeOffset)
	binary.BigEndian.PutUint32(plain[8:], p.SSRC)
	pos.Packets++
	pos.Bytes += uint64(len(packet))
	pos.Octets += uint64(len(plain) - start)
	if f.out != nil {
		f.out.SetROC(p.SSRC, uint32(out>>16))
		protected, err := f.out.EncryptRTP(nil, plain, nil)
		if err != nil {
			panic(err)
		}
		plain = protected
	}
	pos.SentBytes += uint64(len(plain))
	return plain, Forwarded
}

// slide moves the window on.
func (f *flow) slide(by int64) {
	old := f.position.Window
	f.position.Window = [fastpath.WindowSize / 64]uint64{}
	for i := int64(0); i+by < fastpath.WindowSize; i++ {
		if old[i/64]>>(i%64)&1 == 1 {
			f.position.Window[(i+by)/64] |= 1 << ((i + by) % 64)
		}
	}
}

// payloadOf finds where the payload begins; clean is false for padding and for
// what is no complete header.
func payloadOf(b []byte) (start int, clean bool) {
	start = 12 + 4*int(b[0]&0x0f)
	if b[0]&0x10 != 0 {
		if len(b) < start+4 {
			return 0, false
		}
		start += 4 + 4*int(binary.BigEndian.Uint16(b[start+2:]))
	}
	return start, b[0]&0x20 == 0 && len(b) >= start
}
