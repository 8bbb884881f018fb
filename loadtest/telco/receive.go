package telco

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"github.com/isthmus-gateway/isthmus/loadtest/tone"
)

var errNoCodec = errors.New("the peer offers no codec that this number can use")

// reportInterval is the time between RTCP reports (RFC 3550 section 6.2).
const reportInterval = 5 * time.Second

// inbound is the state of the stream we receive (RFC 3550 appendix A).
type inbound struct {
	ssrc     uint32
	packets  uint32
	octets   uint64
	base     uint32
	highest  uint32 // extended sequence number
	prior    uint32 // expected at the last report
	priorRx  uint32
	transit  int64
	jitter   float64
	last     time.Time
	lastSR   uint32
	lastSRAt time.Time
	reports  int // RTCP packets received
}

func (in *inbound) count(h *rtp.Header, octets, rate int, now time.Time) {
	if in.packets == 0 || in.ssrc != h.SSRC {
		reports := in.reports
		*in = inbound{ssrc: h.SSRC, base: uint32(h.SequenceNumber), highest: uint32(h.SequenceNumber), reports: reports}
	}
	if delta := int16(h.SequenceNumber - uint16(in.highest)); delta > 0 {
		in.highest += uint32(delta)
	}
	in.packets++
	in.octets += uint64(octets)
	transit := now.UnixMicro()*int64(rate)/1e6 - int64(h.Timestamp)
	if in.packets > 1 {
		d := float64(int32(transit - in.transit))
		in.jitter += (max(d, -d) - in.jitter) / 16
	}
	in.transit, in.last = transit, now
}

func (m *media) readRTP() {
	buffer := make([]byte, 2048)
	for {
		n, from, err := m.rtp.ReadFromUDPAddrPort(buffer)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an ICMP error of an earlier packet
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if n >= 2 && buffer[1] >= 192 && buffer[1] <= 223 { // RFC 5761 section 4
			m.report(m.open(buffer[:n], true))
			continue
		}
		raw := m.open(buffer[:n], false)
		var packet rtp.Packet
		if packet.Unmarshal(raw) != nil || packet.Version != 2 {
			continue
		}
		m.receive(&packet, from)
	}
}

func (m *media) receive(packet *rtp.Packet, from netip.AddrPort) {
	m.mu.Lock()
	if !m.agreed {
		m.mu.Unlock()
		return
	}
	event := false
	for _, pt := range m.events {
		event = event || pt == packet.PayloadType
	}
	if !event && packet.PayloadType != m.codec.pt {
		m.mu.Unlock()
		return // comfort noise or something never agreed on
	}
	if !m.latched || from != m.remote {
		m.remote, m.latched = from, true
	}
	m.in.count(&packet.Header, len(packet.Payload), m.codec.rate, time.Now())
	var digit byte
	if event {
		digit = m.takeDigit(packet)
	} else {
		if law, ok := m.codec.law(); ok {
			m.record(law, packet.Payload)
		}
		if m.echoing {
			m.echoPacket(packet)
		}
	}
	onDigit := m.onDigit
	m.mu.Unlock()
	if digit != 0 && onDigit != nil {
		onDigit(digit)
	}
}

// echoPacket sends a packet back with our own numbers but its spacing.
func (m *media) echoPacket(packet *rtp.Packet) {
	if m.echoSSRC != packet.SSRC || m.echoOffset == 0 {
		m.echoSSRC = packet.SSRC
		m.echoOffset = m.out.ts - packet.Timestamp
	}
	m.sendLocked(m.codec.pt, packet.Payload, packet.Marker, packet.Timestamp+m.echoOffset)
	m.out.ts = packet.Timestamp + m.echoOffset + uint32(m.codec.rate/50)
}

// record keeps the audio for analysis.
func (m *media) record(law tone.Law, payload []byte) {
	for _, octet := range payload {
		m.ring[m.ringNext] = law.Decode(octet)
		if m.ringNext++; m.ringNext == len(m.ring) {
			m.ringNext, m.ringFull = 0, true
		}
	}
}

// heard returns the last samples received, at most count.
func (m *media) heard(count int) []int16 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []int16
	if m.ringFull {
		all = append(all, m.ring[m.ringNext:]...)
	}
	all = append(all, m.ring[:m.ringNext]...)
	return all[max(0, len(all)-count):]
}

// forget empties the recording.
func (m *media) forget() {
	m.mu.Lock()
	m.ringNext, m.ringFull = 0, false
	m.mu.Unlock()
}

func (m *media) readRTCP() {
	buffer := make([]byte, 2048)
	for {
		n, _, err := m.rtcp.ReadFromUDPAddrPort(buffer)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		m.report(m.open(buffer[:n], true))
	}
}

func (m *media) open(raw []byte, control bool) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.protection.open(raw, control)
}

func (m *media) report(raw []byte) {
	packets, err := rtcp.Unmarshal(raw)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.in.reports += len(packets)
	for _, p := range packets {
		if sr, ok := p.(*rtcp.SenderReport); ok {
			m.in.lastSR, m.in.lastSRAt = uint32(sr.NTPTime>>16), time.Now()
		}
	}
}

// sendReport sends a sender or receiver report with our CNAME.
func (m *media) sendReport() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sendRTCP()
}

func (m *media) sendGoodbye() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.out.packets > 0 {
		m.sendRTCP(&rtcp.Goodbye{Sources: []uint32{m.out.ssrc}})
	}
}

func (m *media) sendRTCP(more ...rtcp.Packet) {
	if !m.agreed || !m.remoteRTCP.IsValid() {
		return
	}
	var reports []rtcp.ReceptionReport
	if m.in.packets > 0 {
		reports = append(reports, m.receptionReport())
	}
	packets := []rtcp.Packet{&rtcp.ReceiverReport{SSRC: m.out.ssrc, Reports: reports}}
	if m.out.packets > 0 {
		packets[0] = &rtcp.SenderReport{
			SSRC: m.out.ssrc, NTPTime: ntp(time.Now()), RTPTime: m.out.ts,
			PacketCount: m.out.packets, OctetCount: m.out.octets, Reports: reports,
		}
	}
	packets = append(packets, &rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{
		Source: m.out.ssrc,
		Items:  []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: "telco@" + m.advertise.String()}},
	}}})
	raw, err := rtcp.Marshal(append(packets, more...))
	if err != nil {
		return
	}
	raw = m.protection.seal(raw, true)
	if m.mux {
		m.rtp.WriteToUDPAddrPort(raw, m.remote)
	} else {
		m.rtcp.WriteToUDPAddrPort(raw, m.remoteRTCP)
	}
}

func (m *media) receptionReport() rtcp.ReceptionReport {
	in := &m.in
	expected := in.highest - in.base + 1
	r := rtcp.ReceptionReport{SSRC: in.ssrc, LastSequenceNumber: in.highest, Jitter: uint32(in.jitter), LastSenderReport: in.lastSR}
	if expected > in.packets {
		r.TotalLost = expected - in.packets
	}
	span, got := expected-in.prior, in.packets-in.priorRx
	if span > got && span > 0 {
		r.FractionLost = uint8((span - got) * 255 / span)
	}
	in.prior, in.priorRx = expected, in.packets
	if !in.lastSRAt.IsZero() {
		r.Delay = uint32(time.Since(in.lastSRAt).Seconds() * 65536)
	}
	return r
}

// ntp gives a time in the 64-bit format of RFC 5905.
func ntp(t time.Time) uint64 {
	const from1900 = 2208988800
	seconds := uint64(t.Unix()) + from1900
	return seconds<<32 | uint64(t.Nanosecond())<<32/1e9
}
