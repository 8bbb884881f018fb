package forward

import (
	"time"

	"github.com/pion/rtcp"
)

const (
	// reportInterval between reports of the node's own (RFC 3550 section 6.2).
	reportInterval = 5 * time.Second
	// translatedFor is how long a translated report stands in for one of the
	// node's own. Senders spread their reports up to 1.5 intervals.
	translatedFor = 2 * reportInterval
	// ntpEpoch is 1970 in seconds of NTP time.
	ntpEpoch = 2208988800
)

// reports is what RTCP needs to know of a stream.
type reports struct {
	started time.Time
	packets uint32
	octets  uint32
	// reported is the packet count of the node's own last sender report.
	reported uint32
	// When a report of the far end last passed through to this stream's peer.
	senderAt, receiverAt time.Time
	// The newest sender reports, to find the round trip from the answer.
	sent [4]sentReport
	next int
	// peer is the newest report about what was sent.
	peer peerReport
	// receivedAt the last own receiver report, in packets.
	receivedBefore uint64
}

type sentReport struct {
	ntp uint32 // middle 32 bits
	at  time.Time
	own bool
}

func (r *reports) note(ntp uint64, at time.Time, own bool) {
	r.sent[r.next%len(r.sent)] = sentReport{ntp: uint32(ntp >> 16), at: at, own: own}
	r.next++
}

func (r *reports) find(ntp uint32) (sentReport, bool) {
	if ntp == 0 {
		return sentReport{}, false
	}
	for _, s := range r.sent {
		if s.ntp == ntp && !s.at.IsZero() {
			return s, true
		}
	}
	return sentReport{}, false
}

// ReceiveRTCP takes a compound RTCP packet that arrived on a leg, and passes on
// what concerns the other side: reports, with the SSRCs and numbers of that side,
// and requests for key frames (PLI, FIR). Feedback about one link ends here: generic
// NACK, REMB and transport-wide congestion control, which no description of the
// gateway asks for, since the node keeps no packets to send again and does not
// choose a rate. It reports whether it was RTCP.
func (t *Table) ReceiveRTCP(leg string, packet []byte, now time.Time) bool {
	packets, err := rtcp.Unmarshal(packet)
	if err != nil {
		return false
	}
	for _, p := range packets {
		switch p := p.(type) {
		case *rtcp.SenderReport:
			t.senderReport(leg, p, now)
			t.receptionReports(leg, p.Reports, now)
		case *rtcp.ReceiverReport:
			t.receptionReports(leg, p.Reports, now)
		case *rtcp.PictureLossIndication:
			t.keyFrame(leg, p.MediaSSRC, func(from, to uint32) rtcp.Packet {
				return &rtcp.PictureLossIndication{SenderSSRC: from, MediaSSRC: to}
			})
		case *rtcp.FullIntraRequest:
			for _, e := range p.FIR {
				t.keyFrame(leg, e.SSRC, func(from, to uint32) rtcp.Packet {
					return &rtcp.FullIntraRequest{SenderSSRC: from, MediaSSRC: to,
						FIR: []rtcp.FIREntry{{SSRC: to, SequenceNumber: e.SequenceNumber}}}
				})
			}
		case *rtcp.Goodbye:
			t.goodbye(leg, p.Sources)
		}
	}
	return true
}

func (t *Table) bySource(leg string, ssrc uint32) *Stream {
	for _, s := range t.on(leg) {
		if s.in.active && s.in.ssrc == ssrc {
			return s
		}
	}
	return nil
}

func (t *Table) bySender(leg string, ssrc uint32) *Stream {
	for _, s := range t.on(leg) {
		if s.out.ssrc == ssrc {
			return s
		}
	}
	return nil
}

// senderReport passes a sender report on with the SSRC and the time line of each
// output. The NTP time stays that of the far end, so that its streams still line
// up with each other.
func (t *Table) senderReport(leg string, sr *rtcp.SenderReport, now time.Time) {
	s := t.bySource(leg, sr.SSRC)
	if s == nil {
		return
	}
	s.in.lastSR, s.in.lastSRAt = uint32(sr.NTPTime>>16), now
	if !s.config.Direction.receives() {
		return
	}
	for _, l := range s.links {
		to, o := l.to, &l.to.out
		if o.input != s || o.epoch != s.in.epoch || !o.tsMapped || o.clockEpoch != s.in.clockEpoch || o.clock != s.in.clock || !to.config.Direction.sends() {
			continue
		}
		to.reports.senderAt = now
		to.reports.note(sr.NTPTime, now, false)
		t.compound(to, &rtcp.SenderReport{
			SSRC: o.ssrc, NTPTime: sr.NTPTime, RTPTime: sr.RTPTime + o.tsOffset,
			PacketCount: to.reports.packets, OctetCount: to.reports.octets,
		})
	}
}

// receptionReports takes what a peer tells of the streams that the node sends to
// it, and passes it back to where they come from.
func (t *Table) receptionReports(leg string, blocks []rtcp.ReceptionReport, now time.Time) {
	for _, b := range blocks {
		s := t.bySender(leg, b.SSRC)
		if s == nil {
			continue
		}
		report, known := s.reports.find(b.LastSenderReport)
		if known {
			delay := time.Duration(b.Delay) * time.Second / 65536
			if rtt := now.Sub(report.at) - delay; rtt >= 0 {
				s.counters.RoundTrip = max(rtt, time.Microsecond)
			}
		}
		s.heard(b)
		in, o := s.fedBy, &s.out
		if in == nil || o.input != in || o.epoch != in.in.epoch {
			continue
		}
		// The receiver counts cycles from when it began; only the low half
		// means the same on both sides.
		index := int64(o.index) - int64(uint16(o.index)-uint16(b.LastSequenceNumber))
		ext := index - o.seqOffset
		if ext < o.base {
			continue // it speaks of what came before this source
		}
		b.SSRC = in.in.ssrc
		b.LastSequenceNumber = in.in.extended(ext)
		if !known || report.own {
			b.LastSenderReport, b.Delay = 0, 0
		}
		in.reports.receiverAt = now
		t.compound(in, &rtcp.ReceiverReport{SSRC: in.out.ssrc, Reports: []rtcp.ReceptionReport{b}})
	}
}

// heard notes what the peer tells of the stream that it receives. Its own count of
// the packets that it expected is not in a report; that of the sent ones is close.
func (s *Stream) heard(b rtcp.ReceptionReport) {
	lost := int64(int32(b.TotalLost<<8) >> 8) // 24 bits with a sign
	s.reports.peer = peerReport{known: true, lost: lost, expected: int64(s.reports.packets)}
	if clock := s.out.clock; clock != 0 {
		s.reports.peer.jitter = time.Duration(float64(b.Jitter) / float64(clock) * float64(time.Second))
	}
}

// keyFrame passes a request for a key frame to the sender of the stream.
func (t *Table) keyFrame(leg string, media uint32, request func(from, to uint32) rtcp.Packet) {
	s := t.bySender(leg, media)
	if s == nil || s.fedBy == nil || !s.fedBy.in.active {
		return
	}
	from := s.fedBy
	t.compound(from, &rtcp.ReceiverReport{SSRC: from.out.ssrc}, request(from.out.ssrc, from.in.ssrc))
}

// goodbye lets another source follow at once. It is not passed on: the SSRC that
// the other side sees lives as long as the stream.
func (t *Table) goodbye(leg string, sources []uint32) {
	for _, ssrc := range sources {
		if s := t.bySource(leg, ssrc); s != nil {
			s.in.ended = true
		}
	}
}

// report sends the node's own report about a stream, unless reports of the far
// end pass through.
func (t *Table) report(s *Stream, now time.Time) {
	r := &s.reports
	var first rtcp.Packet
	var blocks []rtcp.ReceptionReport
	if s.in.active && s.counters.ReceivedPackets > r.receivedBefore && now.Sub(latest(r.receiverAt, r.started)) >= reportInterval && now.Sub(r.receiverAt) >= translatedFor {
		blocks = []rtcp.ReceptionReport{s.reception(now)}
		r.receivedBefore = s.counters.ReceivedPackets
	}
	switch {
	case r.packets > r.reported && now.Sub(r.senderAt) >= translatedFor && s.out.clock != 0:
		ntp := ntpTime(now)
		r.reported = r.packets
		r.note(ntp, now, true)
		passed := uint32(now.Sub(s.out.at).Seconds() * float64(s.out.clock))
		first = &rtcp.SenderReport{SSRC: s.out.ssrc, NTPTime: ntp, RTPTime: s.out.ts + passed,
			PacketCount: r.packets, OctetCount: r.octets, Reports: blocks}
	case blocks != nil:
		first = &rtcp.ReceiverReport{SSRC: s.out.ssrc, Reports: blocks}
	default:
		return
	}
	t.compound(s, first)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// reception is the node's own report about what a stream receives.
func (s *Stream) reception(now time.Time) rtcp.ReceptionReport {
	block := rtcp.ReceptionReport{
		SSRC:               s.in.ssrc,
		FractionLost:       s.in.fraction(),
		TotalLost:          uint32(max(0, min(s.in.lost(), 0x7fffff))),
		LastSequenceNumber: s.in.extended(s.in.highest),
		Jitter:             uint32(s.in.jitter),
	}
	if !s.in.lastSRAt.IsZero() {
		block.LastSenderReport = s.in.lastSR
		block.Delay = uint32(now.Sub(s.in.lastSRAt).Seconds() * 65536)
	}
	return block
}

// Bye tells the peer of a leg that the node's sources end (RFC 3550 section 6.6).
func (t *Table) Bye(leg string) {
	for _, s := range t.on(leg) {
		if s.reports.packets > 0 {
			t.compound(s, &rtcp.ReceiverReport{SSRC: s.out.ssrc}, &rtcp.Goodbye{Sources: []uint32{s.out.ssrc}})
		}
	}
}

// compound sends a compound packet to a stream's peer: a report, the canonical
// name, then the rest (RFC 3550 section 6.1).
func (t *Table) compound(s *Stream, report rtcp.Packet, rest ...rtcp.Packet) {
	cname := s.config.CName
	if cname == "" {
		cname = s.config.ID
	}
	packets := append([]rtcp.Packet{report, rtcp.NewCNAMESourceDescription(s.out.ssrc, cname)}, rest...)
	b, err := rtcp.Marshal(packets)
	if err != nil {
		return
	}
	t.sink.SendRTCP(s.config.Leg, b)
}

func ntpTime(t time.Time) uint64 {
	seconds := uint64(t.Unix() + ntpEpoch)
	fraction := uint64(t.Nanosecond()) << 32 / uint64(time.Second)
	return seconds<<32 | fraction
}
