package telco

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
)

// direction is the direction of a media stream, as its describer sees it
// (RFC 3264 section 5.1).
type direction string

const (
	sendRecv direction = "sendrecv"
	sendOnly direction = "sendonly"
	recvOnly direction = "recvonly"
	inactive direction = "inactive"
)

func (d direction) sends() bool    { return d == sendRecv || d == sendOnly }
func (d direction) receives() bool { return d == sendRecv || d == recvOnly }

// answerTo returns the widest direction that answers an offer of d and lies
// within wanted.
func (d direction) answerTo(wanted direction) direction {
	sends := d.receives() && wanted.sends()
	receives := d.sends() && wanted.receives()
	switch {
	case sends && receives:
		return sendRecv
	case sends:
		return sendOnly
	case receives:
		return recvOnly
	}
	return inactive
}

// codec is an audio format with the payload type it has in a session.
type codec struct {
	name     string // as registered: PCMU, PCMA, G722, opus
	pt       uint8
	rate     int // of the RTP clock, in hertz
	channels int
	fmtp     string
}

// The codecs of the network, in the order of its own offers.
var (
	pcmu = codec{name: "PCMU", pt: 0, rate: 8000}
	pcma = codec{name: "PCMA", pt: 8, rate: 8000}
	g722 = codec{name: "G722", pt: 9, rate: 8000}
	opus = codec{name: "opus", pt: 111, rate: 48000, channels: 2}

	everyCodec = []codec{pcmu, pcma, g722, opus} // what can be echoed
	toneCodecs = []codec{pcmu, pcma}             // what tones can be made in
)

func (c codec) is(other codec) bool {
	return strings.EqualFold(c.name, other.name) && c.rate == other.rate
}

// eventPT is the payload type of telephone-event in the network's own offers.
const eventPT = 101

// streamSide is what one description says about the audio stream.
type streamSide struct {
	address   netip.AddrPort // where RTP goes; invalid with c=0.0.0.0
	rtcp      netip.AddrPort
	mux       bool
	codecs    []codec // in order of preference, without telephone-event
	events    map[int]uint8
	direction direction
	ptime     int
	keying    keying
}

// offerShape remembers the media lines of an offer, which the answer must
// mirror.
type offerShape struct {
	lines []mediaLine
	audio int // index of the audio line taken
}

type mediaLine struct {
	media, protos, formats string
}

var errNoAudio = errors.New("the session description has no audio stream over RTP/AVP, nor over RTP/SAVP with a key")

// parseSession reads a description: its first usable audio stream, and the
// shape that an answer to it needs.
func parseSession(body []byte) (streamSide, offerShape, error) {
	var d sdp.SessionDescription
	if err := d.Unmarshal(body); err != nil {
		return streamSide{}, offerShape{}, fmt.Errorf("parse session description: %w", err)
	}
	shape := offerShape{audio: -1}
	var side streamSide
	for i, m := range d.MediaDescriptions {
		protos := strings.Join(m.MediaName.Protos, "/")
		shape.lines = append(shape.lines, mediaLine{m.MediaName.Media, protos, strings.Join(m.MediaName.Formats, " ")})
		profile := protos == "RTP/AVP" || protos == "RTP/AVPF" || strings.HasPrefix(protos, "RTP/SAVP") && !parseKeying(m).none()
		usable := m.MediaName.Media == "audio" && m.MediaName.Port.Value != 0 && profile
		if shape.audio >= 0 || !usable {
			continue
		}
		s, err := parseAudio(&d, m)
		if err != nil {
			return streamSide{}, offerShape{}, err
		}
		side, shape.audio = s, i
	}
	if shape.audio < 0 {
		return streamSide{}, shape, errNoAudio
	}
	return side, shape, nil
}

func parseAudio(d *sdp.SessionDescription, m *sdp.MediaDescription) (streamSide, error) {
	connection := m.ConnectionInformation
	if connection == nil {
		connection = d.ConnectionInformation
	}
	if connection == nil || connection.Address == nil {
		return streamSide{}, errors.New("the audio stream has no c= line")
	}
	host, _, _ := strings.Cut(connection.Address.Address, "/")
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return streamSide{}, fmt.Errorf("the c= line has no IP address but %q", host)
	}
	port := m.MediaName.Port.Value
	if port < 1 || port > 65535 {
		return streamSide{}, fmt.Errorf("the audio stream has port %d", port)
	}
	s := streamSide{direction: sendRecv, events: map[int]uint8{}, keying: parseKeying(m)}
	for _, attributes := range [][]sdp.Attribute{d.Attributes, m.Attributes} {
		for _, a := range attributes {
			switch dir := direction(a.Key); dir {
			case sendRecv, sendOnly, recvOnly, inactive:
				s.direction = dir
			}
		}
	}
	if ip.IsUnspecified() { // hold of RFC 2543
		if s.direction.sends() {
			s.direction = sendOnly
		} else {
			s.direction = inactive
		}
	} else {
		s.address = netip.AddrPortFrom(ip, uint16(port))
		s.rtcp = netip.AddrPortFrom(ip, uint16(min(port+1, 65535)))
	}
	if value, ok := m.Attribute("rtcp"); ok && s.rtcp.IsValid() {
		if p, err := strconv.ParseUint(strings.Fields(value + " 0")[0], 10, 16); err == nil && p > 0 {
			s.rtcp = netip.AddrPortFrom(ip, uint16(p))
		}
	}
	if _, s.mux = m.Attribute("rtcp-mux"); s.mux {
		s.rtcp = s.address
	}
	if value, ok := m.Attribute("ptime"); ok {
		s.ptime, _ = strconv.Atoi(strings.TrimSpace(value))
	}
	s.parseFormats(m)
	return s, nil
}

func (s *streamSide) parseFormats(m *sdp.MediaDescription) {
	maps, fmtps := map[string]codec{"0": pcmu, "8": pcma, "9": g722}, map[string]string{}
	for _, a := range m.Attributes {
		pt, rest, _ := strings.Cut(a.Value, " ")
		switch a.Key {
		case "rtpmap":
			parts := strings.Split(strings.TrimSpace(rest), "/")
			if len(parts) < 2 {
				continue
			}
			rate, err := strconv.Atoi(parts[1])
			if err != nil {
				continue
			}
			c := codec{name: parts[0], rate: rate}
			if len(parts) > 2 {
				c.channels, _ = strconv.Atoi(parts[2])
			}
			maps[pt] = c
		case "fmtp":
			fmtps[pt] = rest
		}
	}
	for _, format := range m.MediaName.Formats {
		pt, err := strconv.ParseUint(format, 10, 7)
		c, ok := maps[format]
		if err != nil || !ok {
			continue
		}
		c.pt, c.fmtp = uint8(pt), fmtps[format]
		if strings.EqualFold(c.name, "telephone-event") {
			s.events[c.rate] = c.pt
			continue
		}
		s.codecs = append(s.codecs, c)
	}
}

// choose returns the first codec of the peer's that is among those wanted.
func (s *streamSide) choose(wanted []codec) (codec, bool) {
	for _, c := range s.codecs {
		if slices.ContainsFunc(wanted, c.is) {
			return c, true
		}
	}
	return codec{}, false
}

// localStream is what the network says about its side.
type localStream struct {
	address   netip.AddrPort
	codecs    []codec
	events    map[int]uint8 // clock rate to payload type
	direction direction
	mux       bool
	keying    keying
	sessionID uint64
	version   uint64
}

// render writes the description. shape is nil for an offer.
func (s localStream) render(shape *offerShape) []byte {
	var b strings.Builder
	family := "IP4"
	if s.address.Addr().Is6() && !s.address.Addr().Is4In6() {
		family = "IP6"
	}
	host := s.address.Addr().Unmap()
	fmt.Fprintf(&b, "v=0\r\no=- %d %d IN %s %s\r\ns=-\r\nc=IN %s %s\r\nt=0 0\r\n",
		s.sessionID, s.version, family, host, family, host)
	if shape == nil {
		s.renderAudio(&b, "RTP/AVP")
		return []byte(b.String())
	}
	for i, line := range shape.lines {
		if i == shape.audio {
			s.renderAudio(&b, line.protos)
		} else {
			fmt.Fprintf(&b, "m=%s 0 %s %s\r\n", line.media, line.protos, line.formats)
		}
	}
	return []byte(b.String())
}

func (s localStream) renderAudio(b *strings.Builder, protos string) {
	fmt.Fprintf(b, "m=audio %d %s", s.address.Port(), protos)
	rates := make([]int, 0, len(s.events))
	for rate := range s.events {
		rates = append(rates, rate)
	}
	slices.Sort(rates)
	for _, c := range s.codecs {
		fmt.Fprintf(b, " %d", c.pt)
	}
	for _, rate := range rates {
		fmt.Fprintf(b, " %d", s.events[rate])
	}
	b.WriteString("\r\n")
	for _, c := range s.codecs {
		fmt.Fprintf(b, "a=rtpmap:%d %s/%d", c.pt, c.name, c.rate)
		if c.channels > 1 {
			fmt.Fprintf(b, "/%d", c.channels)
		}
		b.WriteString("\r\n")
		if c.fmtp != "" {
			fmt.Fprintf(b, "a=fmtp:%d %s\r\n", c.pt, c.fmtp)
		}
	}
	for _, rate := range rates {
		fmt.Fprintf(b, "a=rtpmap:%d telephone-event/%d\r\na=fmtp:%d 0-15\r\n", s.events[rate], rate, s.events[rate])
	}
	if !s.keying.none() {
		b.WriteString(s.keying.line())
	}
	b.WriteString("a=ptime:20\r\n")
	if s.mux {
		b.WriteString("a=rtcp-mux\r\n")
	}
	fmt.Fprintf(b, "a=%s\r\n", s.direction)
}
