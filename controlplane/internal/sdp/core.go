package sdp

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// maxPtime is the longest packet time taken seriously, in milliseconds.
const maxPtime = 1000

// Core is a description from the core network: RTP in the clear (RFC 3551) or with
// keys in the description (RFC 4568).
type Core struct {
	// SessionID and Version are those of the o= line. A version that is the
	// same as before means that nothing changed (RFC 3264 8).
	SessionID, Version uint64
	// Remote is where the peer receives RTP. Its address is unspecified when
	// the peer holds the call the way of RFC 2543 (c=IN IP4 0.0.0.0).
	Remote netip.AddrPort
	// RTCP is where the peer receives RTCP: that of a=rtcp (RFC 3605), that of
	// RTP when multiplexed, else the next port. Zero when there is none.
	RTCP netip.AddrPort
	// RTCPMux says that the peer can receive both on one port (RFC 5761).
	RTCPMux bool
	// Direction is as the peer sees it; one that gives no address to receive
	// at does not receive.
	Direction Direction
	// Codecs are the peer's formats in its order of preference.
	Codecs []Codec
	// Ptime and MaxPtime are the packet times that the peer asks for, in
	// milliseconds; 0 if it does not say.
	Ptime, MaxPtime int
	// Profile is RTP/AVP, RTP/AVPF, RTP/SAVP or RTP/SAVPF.
	Profile string
	// Crypto are the a=crypto lines that can be used, in the peer's order; none
	// when the policy is SRTPOff.
	Crypto []Crypto
	// Rejected says that the audio m-line has port 0: refused if this is an
	// answer, ended if it is an offer.
	Rejected bool
	// Media are all m-lines in order.
	Media []Media
	// Audio is the index in Media of the m-line that the rest describes.
	Audio int
}

// ParseCore is ParseCoreSRTP for media in the clear.
func ParseCore(text string) (*Core, error) { return ParseCoreSRTP(text, SRTPOff) }

// ParseCoreSRTP reads an offer or answer from the core network. Of several audio
// m-lines it takes the best that the policy permits and that is not refused: the
// first with keys, else the first without; all others are refused in an answer.
// Errors are of type *Error.
func ParseCoreSRTP(text string, policy SRTP) (*Core, error) {
	d, err := lex(text)
	if err != nil {
		return nil, err
	}
	c := &Core{SessionID: d.sessionID, Version: d.version, Audio: -1}
	for _, s := range d.sections {
		c.Media = append(c.Media, s.Media)
	}
	if err := c.choose(d, policy); err != nil {
		return nil, err
	}
	s := d.sections[c.Audio]
	c.Rejected = s.Port == 0
	c.Direction = d.direction(s)
	if c.Codecs, err = s.codecs(); err != nil {
		return nil, err
	}
	c.Ptime = s.milliseconds("ptime")
	c.MaxPtime = s.milliseconds("maxptime")
	if c.Rejected {
		c.Direction = Inactive
		return c, nil
	}
	connection := s.connection
	if connection == "" {
		connection = d.connection
	}
	if connection == "" {
		return nil, malformed("neither the session nor its audio m-line has a c= line")
	}
	addr, err := connectionAddress(connection)
	if err != nil {
		return nil, err
	}
	c.Remote = netip.AddrPortFrom(addr, s.Port)
	if addr.IsUnspecified() {
		c.Direction = c.Direction.Hold()
	}
	_, c.RTCPMux = s.attribute("rtcp-mux")
	return c, c.rtcp(s)
}

// choose finds the audio m-line that the rest describes.
func (c *Core) choose(d *description, policy SRTP) error {
	best := 0
	var profiles []string
	var why error
	for i, s := range d.sections {
		if s.Kind != "audio" {
			continue
		}
		rank, cryptos, err := s.rank(policy)
		if rank == 0 {
			profiles = append(profiles, s.Profile)
			if err != nil {
				why = err
			}
			continue
		}
		if rank > best {
			best, c.Audio, c.Profile, c.Crypto = rank, i, s.Profile, cryptos
		}
	}
	switch {
	case best > 0:
		return nil
	case why != nil:
		return why
	case len(profiles) > 0 && policy == SRTPRequired:
		return unacceptable("audio is described as %s only; RTP/SAVP with a=crypto is required", clip(strings.Join(profiles, ", ")))
	case len(profiles) > 0:
		return unacceptable("audio is described as %s only; RTP/AVP is required", clip(strings.Join(profiles, ", ")))
	}
	return unacceptable("it has no audio m-line")
}

// rank says how welcome an audio section is; 0 is not at all. A refused one has
// nothing to be measured by and is the last resort.
func (s *section) rank(policy SRTP) (rank int, cryptos []Crypto, why error) {
	plain := s.Profile == "RTP/AVP" || s.Profile == "RTP/AVPF"
	if !plain && (s.Profile != "RTP/SAVP" && s.Profile != "RTP/SAVPF" || !policy.on()) {
		return 0, nil, nil
	}
	if policy.on() {
		cryptos, why = s.cryptos()
	}
	switch {
	case s.Port == 0:
		return 1, cryptos, nil
	case !plain && len(cryptos) > 0:
		return 4, cryptos, nil
	case len(cryptos) > 0:
		return 3, cryptos, nil
	case plain && policy != SRTPRequired:
		return 2, nil, nil
	case why == nil && !plain:
		why = unacceptable("its audio has no a=crypto with a key")
	}
	return 0, nil, why
}

// Secured reports whether the m-line itself demands SRTP: it is RTP/SAVP or
// RTP/SAVPF, not a line in the clear with keys that may be ignored (RFC 8643).
func (c *Core) Secured() bool { return strings.HasPrefix(c.Profile, "RTP/SAVP") }

// rtcp finds where the peer receives RTCP.
func (c *Core) rtcp(s *section) error {
	value, ok := s.attribute("rtcp")
	if !ok {
		switch {
		case c.RTCPMux:
			c.RTCP = c.Remote
		case c.Remote.Port() < math.MaxUint16:
			c.RTCP = netip.AddrPortFrom(c.Remote.Addr(), c.Remote.Port()+1)
		}
		return nil
	}
	portText, address, _ := strings.Cut(value, " ")
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return malformed("a=rtcp:%s has no port from 0 to 65535", clip(value))
	}
	addr := c.Remote.Addr()
	if address = strings.TrimSpace(address); address != "" {
		if addr, err = connectionAddress(address); err != nil {
			return malformed("a=rtcp:%s has no valid address", clip(value))
		}
	}
	if port != 0 {
		c.RTCP = netip.AddrPortFrom(addr, uint16(port))
	}
	return nil
}

// milliseconds reads a packet time; values that make no sense count as absent.
func (s *section) milliseconds(key string) int {
	value, _ := s.attribute(key)
	whole, _, _ := strings.Cut(value, ".")
	n, err := strconv.Atoi(whole)
	if err != nil || n < 1 || n > maxPtime {
		return 0
	}
	return n
}

// CoreEndpoint is the gateway's own side toward the core network.
type CoreEndpoint struct {
	// SessionID and Version go into the o= line; see the package comment for
	// when the version grows.
	SessionID, Version uint64
	// Address is where the gateway receives RTP.
	Address netip.AddrPort
	// RTCP is where it receives RTCP. The zero value means the next port; the
	// same as Address means that both are multiplexed (RFC 5761).
	RTCP netip.AddrPort
	// Direction is as the gateway sees it; empty means SendRecv. An answer
	// narrows it to what the offer permits.
	Direction Direction
	// Codecs in order of preference. An answer uses the first voice codec and
	// every telephone-event (see OneVoice).
	Codecs []Codec
	// Ptime is the packet time asked for in milliseconds; 0 says nothing in an
	// offer and repeats the offered one in an answer.
	Ptime int
	// NoRTCP says that none is sent nor wanted (RFC 3556 2).
	NoRTCP bool
	// Secure makes an offer RTP/SAVP; otherwise it is RTP/AVP, also with Crypto,
	// which the peer may then ignore (RFC 8643). Later offers and answers keep
	// the profile that the session has.
	Secure bool
	// Crypto lines: in an offer as many as there are suites to choose from, in
	// an answer the one that accepts.
	Crypto []Crypto
}

// CoreOffer writes an offer of one audio stream. It fails with ErrNoCommonCodec
// when there is no voice codec, and with *Error when a value cannot be written.
func CoreOffer(local CoreEndpoint) (string, error) {
	w := &writer{}
	w.coreHead(local)
	profile := "RTP/AVP"
	if local.Secure {
		profile = "RTP/SAVP"
	}
	w.coreAudio(local, profile, "")
	return w.finish()
}

// Reoffer writes a later offer of the session that o, the last description of
// the peer, belongs to: hold, resume, a new address. It keeps the m-lines of the
// session, because their number may never shrink (RFC 3264 8), with those that
// were refused still at port 0. The payload types in local must mean what they
// meant before (RFC 3264 8.3.2). Errors are those of CoreOffer.
func (o *Core) Reoffer(local CoreEndpoint) (string, error) {
	w := &writer{}
	w.coreHead(local)
	for i, m := range o.Media {
		if i != o.Audio {
			w.refuse(m, m.formats)
			continue
		}
		w.coreAudio(local, o.Profile, m.Mid)
	}
	return w.finish()
}

// Answer writes the answer to the offer o: its m-lines in its order, all but
// the audio refused. If o.Rejected the audio is refused as well. It fails with
// ErrNoCommonCodec when local has no voice codec of the offer, and with *Error
// when a value cannot be written.
func (o *Core) Answer(local CoreEndpoint) (string, error) {
	w := &writer{}
	w.coreHead(local)
	local.Codecs = OneVoice(onlyOffered(o.Codecs, local.Codecs))
	local.Direction = o.Direction.Answer(local.Direction)
	if local.Ptime == 0 {
		local.Ptime = o.Ptime
	}
	if local.muxed() && !o.RTCPMux && !o.Rejected {
		w.fail(malformed("RTP and RTCP cannot share a port: the offer has no a=rtcp-mux"))
	}
	if len(local.Crypto) > 1 {
		w.fail(malformed("an answer accepts one a=crypto, not %d", len(local.Crypto)))
	}
	for i, m := range o.Media {
		if i != o.Audio || o.Rejected {
			w.refuse(m, m.formats)
			continue
		}
		w.coreAudio(local, o.Profile, m.Mid)
	}
	return w.finish()
}

func (e CoreEndpoint) muxed() bool { return !e.NoRTCP && e.RTCP.IsValid() && e.RTCP == e.Address }

func (w *writer) coreHead(local CoreEndpoint) {
	if !local.Address.IsValid() || local.Address.Port() == 0 || local.Address.Addr().IsUnspecified() {
		w.fail(malformed("%s is not an address to receive RTP at", local.Address))
		return
	}
	w.head(local.SessionID, local.Version, local.Address.Addr())
	w.line('c', inet(local.Address.Addr()))
	w.line('t', "0 0")
}

func (w *writer) coreAudio(local CoreEndpoint, profile, mid string) {
	w.media("audio", local.Address.Port(), profile, w.formats(local.Codecs))
	if local.NoRTCP {
		w.line('b', "RS:0")
		w.line('b', "RR:0")
	}
	if mid != "" {
		w.value("mid", mid)
	}
	w.codecs(local.Codecs)
	w.crypto(local.Crypto, strings.HasPrefix(profile, "RTP/SAVP"))
	w.ptime(local.Ptime)
	w.direction(local.Direction)
	switch rtcp := local.RTCP; {
	case local.NoRTCP:
	case local.muxed():
		w.attribute("rtcp-mux")
	case !rtcp.IsValid():
	case rtcp.Addr() != local.Address.Addr():
		w.value("rtcp", strconv.Itoa(int(rtcp.Port()))+" "+inet(rtcp.Addr()))
	case int(rtcp.Port()) != int(local.Address.Port())+1:
		w.value("rtcp", strconv.Itoa(int(rtcp.Port())))
	}
}

// crypto writes the keys of an m-line, which one of RTP/SAVP must have.
func (w *writer) crypto(lines []Crypto, must bool) {
	if must && len(lines) == 0 {
		w.fail(malformed("an RTP/SAVP m-line without a=crypto cannot be written"))
	}
	for i, c := range lines {
		if err := c.validate(); err != nil {
			w.fail(err)
		}
		if slices.ContainsFunc(lines[:i], func(o Crypto) bool { return o.Tag == c.Tag }) {
			w.fail(malformed("crypto tag %d is used twice", c.Tag))
		}
		w.value("crypto", c.line())
	}
}

// onlyOffered returns those codecs that the offer has, under the offer's
// payload types.
func onlyOffered(offer, codecs []Codec) []Codec {
	var out []Codec
	for _, c := range codecs {
		for _, o := range offer {
			if o.Same(c) && !containsNumber(out, o.PayloadType) {
				c.PayloadType = o.PayloadType
				out = append(out, c)
				break
			}
		}
	}
	return out
}

func containsNumber(codecs []Codec, pt uint8) bool {
	for _, c := range codecs {
		if c.PayloadType == pt {
			return true
		}
	}
	return false
}
