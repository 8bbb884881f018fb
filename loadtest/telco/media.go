package telco

import (
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/rtp"

	"github.com/isthmus-gateway/isthmus/loadtest/tone"
)

// frame is the packet interval of everything the network plays.
const frame = 20 * time.Millisecond

// recorded is how much received audio is kept for analysis, in samples.
const recorded = 4 * tone.Rate

// source makes the audio to send, 8000 samples per second. It is called from
// one goroutine, once per frame.
type source interface {
	Read(samples []int16)
}

// media is the RTP end of a call: two sockets, what both sides agreed on, and
// the streams. It sends to where the peer's description points until a valid
// packet arrives, and from then on to where packets come from (symmetric RTP,
// RFC 4961).
type media struct {
	log       *slog.Logger
	rtp, rtcp *net.UDPConn
	advertise netip.Addr
	sessionID uint64
	version   uint64
	done      chan struct{}
	closeOnce sync.Once
	work      sync.WaitGroup

	mu          sync.Mutex
	agreed      bool
	offeredOwn  []codec // of our offer that is still unanswered
	codec       codec
	events      map[int]uint8 // clock rate to payload type, as agreed
	remote      netip.AddrPort
	remoteRTCP  netip.AddrPort
	mux         bool
	latched     bool
	direction   direction // ours, after the last negotiation
	theirs      direction
	protection  protection
	out         outbound
	in          inbound
	play        source
	echoing     bool
	echoOffset  uint32
	echoSSRC    uint32
	ring        []int16
	ringNext    int
	ringFull    bool
	digitTS     uint32
	digitHeard  bool
	onDigit     func(digit byte)
	sendingDTMF bool
}

// outbound is the state of the stream we send.
type outbound struct {
	ssrc    uint32
	seq     uint16
	ts      uint32
	packets uint32
	octets  uint32
	started bool
	marker  bool
}

// openMedia binds the sockets of a call and starts to read them.
func (n *Network) openMedia(log *slog.Logger) (*media, error) {
	conn, control, err := n.ports.open()
	if err != nil {
		return nil, err
	}
	m := &media{
		log: log, rtp: conn, rtcp: control,
		sessionID: uint64(rand.Uint32()) + 1, version: 1,
		done:      make(chan struct{}),
		direction: sendRecv,
		theirs:    sendRecv,
		events:    map[int]uint8{},
		out:       outbound{ssrc: rand.Uint32(), seq: uint16(rand.Uint32() >> 17), ts: rand.Uint32()},
		ring:      make([]int16, recorded),
	}
	m.advertise = conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	if m.advertise.IsUnspecified() {
		m.advertise = netip.MustParseAddr(n.host)
	}
	m.work.Go(m.readRTP)
	m.work.Go(m.readRTCP)
	m.work.Go(m.tick)
	return m, nil
}

// close stops the streams and frees the ports. It returns when all goroutines
// have ended.
func (m *media) close() {
	m.closeOnce.Do(func() {
		m.sendGoodbye()
		close(m.done)
		m.rtp.Close()
		m.rtcp.Close()
	})
	m.work.Wait()
}

func (m *media) localAddress() netip.AddrPort {
	port := m.rtp.LocalAddr().(*net.UDPAddr).Port
	return netip.AddrPortFrom(m.advertise, uint16(port))
}

// offer makes a description of our own: at first with the codecs given, later
// with the one agreed on.
func (m *media) offer(codecs []codec, dir direction) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	events := map[int]uint8{8000: eventPT}
	if m.agreed {
		codecs, events = []codec{m.codec}, m.events
	} else if len(codecs) == len(everyCodec) {
		events[48000] = eventPT + 1
	}
	m.offeredOwn = codecs
	m.direction = dir
	return m.describe(codecs, events, nil)
}

// answer takes an offer and returns the answer, in the direction dir at most. An
// offer with keys is answered with SRTP (RFC 4568), also when they may be ignored.
func (m *media) answer(body []byte, wanted []codec, dir direction) ([]byte, error) {
	side, shape, err := parseSession(body)
	if err != nil {
		return nil, err
	}
	chosen, ok := side.choose(wanted)
	if !ok {
		return nil, errNoCodec
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.protection.answer(side.keying); err != nil {
		return nil, err
	}
	m.agree(side, chosen)
	m.direction = side.direction.answerTo(dir)
	m.mux = side.mux
	return m.describe([]codec{m.codec}, m.events, &shape), nil
}

// answered takes the answer to our own offer.
func (m *media) answered(body []byte) error {
	side, _, err := parseSession(body)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	chosen, ok := side.choose(m.offeredOwn)
	if !ok {
		return errNoCodec
	}
	m.agree(side, chosen)
	m.direction = side.direction.answerTo(m.direction)
	return nil
}

func (m *media) agree(side streamSide, chosen codec) {
	if m.agreed && m.codec.rate != chosen.rate {
		m.out.started = false
	}
	m.codec, m.agreed = chosen, true
	m.events = map[int]uint8{}
	for rate, pt := range side.events {
		if rate == chosen.rate {
			m.events[rate] = pt
		}
	}
	if side.address != m.remote && side.address.IsValid() {
		m.remote, m.latched = side.address, false
	}
	m.remoteRTCP = side.rtcp
	m.theirs = side.direction
	if !side.address.IsValid() {
		m.theirs = inactive
	}
	m.echoOffset, m.echoSSRC = 0, 0
}

func (m *media) describe(codecs []codec, events map[int]uint8, shape *offerShape) []byte {
	m.version++
	s := localStream{
		address: m.localAddress(), codecs: codecs, events: events, direction: m.direction,
		mux: m.mux && shape != nil, keying: m.protection.ours, sessionID: m.sessionID, version: m.version,
	}
	return s.render(shape)
}

// listen makes what is heard play back, or stops that.
func (m *media) echo(on bool) {
	m.mu.Lock()
	m.echoing, m.echoOffset, m.echoSSRC = on, 0, 0
	m.mu.Unlock()
}

// playSource sends the source's audio until another replaces it; nil is
// silence: no packets at all.
func (m *media) playSource(s source) {
	m.mu.Lock()
	if m.play == nil && s != nil {
		m.out.marker = true
	}
	m.play = s
	m.mu.Unlock()
}

// law returns the G.711 law in use, or false with another codec.
func (c codec) law() (tone.Law, bool) {
	switch {
	case c.is(pcmu):
		return tone.MuLaw, true
	case c.is(pcma):
		return tone.ALaw, true
	}
	return 0, false
}

// tick sends a frame of the source every 20 ms and a report every 5 s.
func (m *media) tick() {
	ticker := time.NewTicker(frame)
	defer ticker.Stop()
	samples := make([]int16, tone.Rate/50)
	last := time.Now()
	owed := time.Duration(0)
	nextReport := last.Add(reportInterval)
	for {
		select {
		case <-m.done:
			return
		case now := <-ticker.C:
			// A late tick is made up for, so that the stream keeps its rate.
			owed = min(owed+now.Sub(last), 10*frame)
			last = now
			for ; owed >= frame/2; owed -= frame {
				m.sendFrame(samples)
			}
			if now.After(nextReport) {
				nextReport = now.Add(reportInterval)
				m.sendReport()
			}
		}
	}
}

func (m *media) sendFrame(samples []int16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	law, ok := m.codec.law()
	if m.play == nil || !ok || m.sendingDTMF {
		return
	}
	m.play.Read(samples)
	payload := law.AppendEncoded(make([]byte, 0, len(samples)), samples)
	m.sendLocked(m.codec.pt, payload, m.out.marker, m.out.ts)
	m.out.marker = false
	m.out.ts += uint32(len(samples))
}

// sendLocked sends one packet, if the agreed directions allow it.
func (m *media) sendLocked(pt uint8, payload []byte, marker bool, ts uint32) {
	if !m.agreed || !m.remote.IsValid() || !m.direction.sends() || !m.theirs.receives() {
		return
	}
	packet := rtp.Packet{
		Header: rtp.Header{
			Version: 2, PayloadType: pt, Marker: marker,
			SequenceNumber: m.out.seq, Timestamp: ts, SSRC: m.out.ssrc,
		},
		Payload: payload,
	}
	raw, err := packet.Marshal()
	if err != nil {
		return
	}
	m.out.seq++
	m.out.packets++
	m.out.octets += uint32(len(payload))
	m.out.started = true
	m.rtp.WriteToUDPAddrPort(m.protection.seal(raw, false), m.remote)
}
