package forward

import (
	"testing"
	"time"

	"github.com/pion/rtcp"
)

func control(packets ...rtcp.Packet) []byte {
	b, err := rtcp.Marshal(packets)
	if err != nil {
		panic(err)
	}
	return b
}

// got finds the control packets of one type that were sent on a leg.
func got[T rtcp.Packet](b *bench, leg string) []T {
	var list []T
	for i, p := range b.sink.control {
		if x, ok := p.(T); ok && b.sink.legs[i] == leg {
			list = append(list, x)
		}
	}
	return list
}

// flow starts media from A to B, so that there is a mapping.
func flow(b *bench) sentPacket {
	for i := range uint16(10) {
		b.feed("A", packet(0, 100+i, 8000+uint32(i)*160, 0x5001), frame)
	}
	return b.sink.packets[len(b.sink.packets)-1]
}

func TestSenderReport(t *testing.T) {
	b := setup()
	last := flow(b)
	const ntp = uint64(3900000000)<<32 | 0x12345678
	ok := b.ReceiveRTCP("A", control(&rtcp.SenderReport{SSRC: 0x5001, NTPTime: ntp, RTPTime: 8000 + 10*160, PacketCount: 999, OctetCount: 9}), b.now)
	if !ok {
		t.Fatal("not taken for RTCP")
	}
	reports := got[*rtcp.SenderReport](b, "B")
	if len(reports) != 1 {
		t.Fatalf("%d sender reports", len(reports))
	}
	r := reports[0]
	if r.SSRC != 0xbbbb || r.NTPTime != ntp || r.RTPTime != last.Timestamp+160 || r.PacketCount != 10 || r.OctetCount != 1600 {
		t.Errorf("translated to %+v, last packet %d", r, last.Timestamp)
	}
	names := got[*rtcp.SourceDescription](b, "B")
	if len(names) != 1 || names[0].Chunks[0].Source != 0xbbbb || names[0].Chunks[0].Items[0].Text != "b" {
		t.Errorf("source description %v", names)
	}
	// The report of a source that is not there goes nowhere.
	b.ReceiveRTCP("A", control(&rtcp.SenderReport{SSRC: 0x9999, NTPTime: ntp}), b.now)
	if n := len(got[*rtcp.SenderReport](b, "B")); n != 1 {
		t.Errorf("%d sender reports after a foreign one", n)
	}
}

func TestReceiverReport(t *testing.T) {
	b := setup()
	last := flow(b)
	const ntp = uint64(3900000000)<<32 | 0x12345678
	middle := uint32(ntp >> 16 & 0xffffffff)
	b.ReceiveRTCP("A", control(&rtcp.SenderReport{SSRC: 0x5001, NTPTime: ntp, RTPTime: 9600}), b.now)
	b.now = b.now.Add(130 * time.Millisecond)
	b.ReceiveRTCP("B", control(&rtcp.ReceiverReport{SSRC: 0x7007, Reports: []rtcp.ReceptionReport{{
		SSRC: 0xbbbb, FractionLost: 12, TotalLost: 3, LastSequenceNumber: 7<<16 | uint32(last.SequenceNumber), Jitter: 55,
		LastSenderReport: middle, Delay: 65536 / 10,
	}}}), b.now)
	reports := got[*rtcp.ReceiverReport](b, "A")
	if len(reports) != 1 || len(reports[0].Reports) != 1 {
		t.Fatalf("receiver reports %v", reports)
	}
	block := reports[0].Reports[0]
	want := rtcp.ReceptionReport{SSRC: 0x5001, FractionLost: 12, TotalLost: 3, LastSequenceNumber: 109, Jitter: 55, LastSenderReport: middle, Delay: 65536 / 10}
	if reports[0].SSRC != 0xaaaa || block != want {
		t.Errorf("translated to %+v, want %+v", block, want)
	}
	if rtt := b.State()[1].Counters.RoundTrip; rtt < 29*time.Millisecond || rtt > 31*time.Millisecond {
		t.Errorf("round trip %s, want 30ms", rtt)
	}

	// After another source took over, a report about what came before is not
	// translated: it would tell the new source of losses that are not its own.
	b.feed("A", packet(0, 40000, 5, 0x5002), frame)
	b.ReceiveRTCP("B", control(&rtcp.ReceiverReport{SSRC: 0x7007, Reports: []rtcp.ReceptionReport{{
		SSRC: 0xbbbb, LastSequenceNumber: uint32(last.SequenceNumber)}}}), b.now)
	if n := len(got[*rtcp.ReceiverReport](b, "A")); n != 1 {
		t.Errorf("%d receiver reports, want still 1", n)
	}
}

// A far end that sends no RTCP gets reports of the node's own, both ways.
func TestOwnReports(t *testing.T) {
	b := setup()
	last := flow(b)
	b.Tick(b.now.Add(2 * reportInterval))
	at := b.now.Add(2 * reportInterval)
	sr := got[*rtcp.SenderReport](b, "B")
	if len(sr) != 1 || sr[0].SSRC != 0xbbbb || sr[0].PacketCount != 10 {
		t.Fatalf("to B: %v", b.sink.control)
	}
	if moved := sr[0].RTPTime - last.Timestamp; moved != 8*uint32(2*reportInterval/time.Millisecond) {
		t.Errorf("its timestamp is %d after the last packet", moved)
	}
	rr := got[*rtcp.ReceiverReport](b, "A")
	if len(rr) != 1 || len(rr[0].Reports) != 1 {
		t.Fatalf("to A: %v", b.sink.control)
	}
	if block := rr[0].Reports[0]; block.SSRC != 0x5001 || block.LastSequenceNumber != 109 || block.FractionLost != 0 {
		t.Errorf("own report %+v", block)
	}
	// The answer to the node's own sender report gives the round trip, and is
	// passed on without times that the far end never sent.
	answer := at.Add(40 * time.Millisecond)
	b.ReceiveRTCP("B", control(&rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{{
		SSRC: 0xbbbb, LastSequenceNumber: uint32(last.SequenceNumber), LastSenderReport: uint32(sr[0].NTPTime >> 16), Delay: 0}}}), answer)
	if rtt := b.State()[1].Counters.RoundTrip; rtt != 40*time.Millisecond {
		t.Errorf("round trip %s, want 40ms", rtt)
	}
	rr = got[*rtcp.ReceiverReport](b, "A")
	if block := rr[len(rr)-1].Reports[0]; block.LastSenderReport != 0 || block.Delay != 0 {
		t.Errorf("passed on with times: %+v", block)
	}
	// Silent streams are not reported again and again.
	n := len(b.sink.control)
	b.Tick(at.Add(10 * reportInterval))
	if len(b.sink.control) != n {
		t.Errorf("reports without packets: %v", b.sink.control[n:])
	}
	// While the far end's reports pass through, the node is silent.
	b.now = at.Add(20 * reportInterval)
	b.feed("A", packet(0, 110, 9600, 0x5001), 0)
	b.feed("A", packet(0, 111, 9760, 0x5001), frame)
	b.ReceiveRTCP("A", control(&rtcp.SenderReport{SSRC: 0x5001, NTPTime: 1 << 40, RTPTime: 9760}), b.now)
	n = len(got[*rtcp.SenderReport](b, "B"))
	b.Tick(b.now.Add(time.Second))
	if m := len(got[*rtcp.SenderReport](b, "B")); m != n {
		t.Error("the node's own sender report beside a translated one")
	}
}

func TestKeyFrameRequests(t *testing.T) {
	b := setup()
	flow(b)
	b.ReceiveRTCP("B", control(&rtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: 0xbbbb}), b.now)
	if l := got[*rtcp.PictureLossIndication](b, "A"); len(l) != 1 || l[0].MediaSSRC != 0x5001 || l[0].SenderSSRC != 0xaaaa {
		t.Errorf("PLI %v", l)
	}
	b.ReceiveRTCP("B", control(&rtcp.FullIntraRequest{SenderSSRC: 1, MediaSSRC: 0xbbbb, FIR: []rtcp.FIREntry{{SSRC: 0xbbbb, SequenceNumber: 7}}}), b.now)
	if l := got[*rtcp.FullIntraRequest](b, "A"); len(l) != 1 || l[0].FIR[0].SSRC != 0x5001 || l[0].FIR[0].SequenceNumber != 7 {
		t.Errorf("FIR %v", l)
	}
	// Every compound begins with a report and names its source.
	if _, ok := b.sink.control[0].(*rtcp.ReceiverReport); !ok {
		t.Errorf("a compound begins with %T", b.sink.control[0])
	}
	if _, ok := b.sink.control[1].(*rtcp.SourceDescription); !ok {
		t.Errorf("then comes %T", b.sink.control[1])
	}
}

func TestGoodbye(t *testing.T) {
	b := setup()
	flow(b)
	b.feed("A", packet(0, 1, 1, 0x5002), frame) // 0x5001 is now the source before
	b.ReceiveRTCP("A", control(&rtcp.ReceiverReport{SSRC: 2}, &rtcp.Goodbye{Sources: []uint32{0x5002}}), b.now)
	if n := len(got[*rtcp.Goodbye](b, "B")); n != 0 {
		t.Error("the goodbye of a source was passed on, but the stream lives")
	}
	n := len(b.sink.packets)
	b.feed("A", packet(0, 110, 9600, 0x5001), frame)
	if len(b.sink.packets) != n+1 {
		t.Error("after the goodbye the next source was not believed at once")
	}
	b.Bye("B")
	if l := got[*rtcp.Goodbye](b, "B"); len(l) != 1 || l[0].Sources[0] != 0xbbbb {
		t.Errorf("Bye sent %v", l)
	}
}

func TestRTCPGarbage(t *testing.T) {
	b := setup()
	for _, raw := range [][]byte{nil, {0x80}, {0x80, 200, 0, 6}, {0x81, 201, 0xff, 0xff, 0, 0, 0, 1}} {
		if b.ReceiveRTCP("A", raw, b.now) {
			t.Errorf("%x was taken for RTCP", raw)
		}
	}
}

func FuzzReceiveRTCP(f *testing.F) {
	f.Add(control(&rtcp.SenderReport{SSRC: 0x5001, Reports: []rtcp.ReceptionReport{{SSRC: 0xaaaa}}}))
	f.Add(control(&rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{{SSRC: 0xbbbb, LastSequenceNumber: 0xffffffff, LastSenderReport: 1, Delay: 0xffffffff}}}))
	f.Add(control(&rtcp.Goodbye{Sources: []uint32{0x5001}}))
	f.Add(control(&rtcp.FullIntraRequest{MediaSSRC: 0xbbbb, FIR: []rtcp.FIREntry{{SSRC: 0xbbbb}}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b := setup()
		flow(b)
		b.ReceiveRTCP("A", raw, b.now)
		b.ReceiveRTCP("B", raw, b.now)
		b.Tick(b.now.Add(time.Minute))
		flow(b)
	})
}
