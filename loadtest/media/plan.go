package media

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/pion/srtp/v3"
)

// planFile is a load as it is written in YAML, or in JSON, which is YAML too.
type planFile struct {
	Codec       string         `yaml:"codec"`
	PayloadType *uint8         `yaml:"payload_type"`
	Clock       uint32         `yaml:"clock"`
	Interval    time.Duration  `yaml:"interval"`
	Payload     int            `yaml:"payload"`
	Endpoints   []planEndpoint `yaml:"endpoints"`
	Streams     []planStream   `yaml:"streams"`
}

type planEndpoint struct {
	Name   string    `yaml:"name"`
	Local  string    `yaml:"local"`
	Remote string    `yaml:"remote"`
	SRTP   *planSRTP `yaml:"srtp"`
	ICE    *planICE  `yaml:"ice"`
	DTLS   *planDTLS `yaml:"dtls"`
	// Count makes so many of it, ports Step apart.
	Count int `yaml:"count"`
	Step  int `yaml:"step"`
}

type planSRTP struct {
	Profile string `yaml:"profile"`
	Send    string `yaml:"send"`
	Receive string `yaml:"receive"`
}

type planICE struct {
	LocalUfrag     string `yaml:"local_ufrag"`
	LocalPassword  string `yaml:"local_password"`
	RemoteUfrag    string `yaml:"remote_ufrag"`
	RemotePassword string `yaml:"remote_password"`
}

type planDTLS struct {
	Role        string `yaml:"role"`
	Profile     string `yaml:"profile"`
	Fingerprint string `yaml:"fingerprint"`
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

type planStream struct {
	From string `yaml:"from"`
	To   string `yaml:"to"`
	SSRC uint32 `yaml:"ssrc"`
}

// maxEndpoints of a plan.
const maxEndpoints = 40000

// ReadPlan reads a load from a file. An unknown key is an error that names it.
func ReadPlan(path string) (*Load, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	load, err := ParsePlan(text)
	if err != nil {
		return nil, fmt.Errorf("plan %s: %w", path, err)
	}
	return load, nil
}

// ParsePlan reads a load from YAML or JSON.
func ParsePlan(text []byte) (*Load, error) {
	var f planFile
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict(), yaml.DisallowUnknownField()).Decode(&f); err != nil {
		return nil, errors.New(yaml.FormatError(err, false, true))
	}
	codec, err := f.codec()
	if err != nil {
		return nil, err
	}
	load := &Load{Codec: codec}
	index := map[string][]int{}
	for _, e := range f.Endpoints {
		if index[e.Name], err = load.endpoints(e); err != nil {
			return nil, fmt.Errorf("endpoint %q: %w", e.Name, err)
		}
	}
	for i, s := range f.Streams {
		if err := load.streams(i, s, index); err != nil {
			return nil, fmt.Errorf("stream %d: %w", i, err)
		}
	}
	return load, load.Validate()
}

func (f *planFile) codec() (Codec, error) {
	name := f.Codec
	if name == "" {
		name = "pcmu"
	}
	c, err := CodecNamed(name)
	if err != nil {
		return c, err
	}
	if f.PayloadType != nil {
		c.PayloadType = *f.PayloadType
	}
	if f.Clock != 0 {
		c.Clock = f.Clock
	}
	if f.Interval != 0 {
		c.Interval = f.Interval
	}
	if f.Payload != 0 {
		c.Payload = f.Payload
	}
	return c, nil
}

func (l *Load) endpoints(e planEndpoint) (indices []int, err error) {
	count, step := max(e.Count, 1), e.Step
	if step == 0 {
		step = 2
	}
	switch {
	case e.Count < 0 || len(l.Endpoints)+count > maxEndpoints:
		return nil, fmt.Errorf("count %d: at most %d endpoints", e.Count, maxEndpoints)
	case step < 0 || step > 1000:
		return nil, fmt.Errorf("step %d: must be 1 to 1000", step)
	}
	local, err := netip.ParseAddrPort(e.Local)
	if err != nil {
		return nil, fmt.Errorf("local: %q is not ip:port", e.Local)
	}
	remote, err := netip.ParseAddrPort(e.Remote)
	if err != nil {
		return nil, fmt.Errorf("remote: %q is not ip:port", e.Remote)
	}
	for i := range count {
		n := Endpoint{Name: e.Name}
		if e.Count > 0 {
			n.Name = fmt.Sprintf("%s-%d", e.Name, i)
		}
		if n.Local, err = shift(local, i*step); err != nil {
			return nil, fmt.Errorf("local: %w", err)
		}
		if n.Remote, err = shift(remote, i*step); err != nil {
			return nil, fmt.Errorf("remote: %w", err)
		}
		if err := e.protect(&n); err != nil {
			return nil, err
		}
		indices = append(indices, len(l.Endpoints))
		l.Endpoints = append(l.Endpoints, n)
	}
	return indices, nil
}

func shift(a netip.AddrPort, by int) (netip.AddrPort, error) {
	if a.Port() == 0 {
		return a, nil
	}
	port := int(a.Port()) + by
	if port > 65535 {
		return a, fmt.Errorf("counting up from port %d goes beyond 65535", a.Port())
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), uint16(port)), nil
}

func (e *planEndpoint) protect(n *Endpoint) (err error) {
	if s := e.SRTP; s != nil {
		n.Keys = &Keys{}
		if n.Keys.Profile, err = ProfileNamed(s.Profile); err != nil {
			return fmt.Errorf("srtp.profile: %w", err)
		}
		if n.Keys.Send, err = master(s.Send, n.Keys.Profile); err != nil {
			return fmt.Errorf("srtp.send: %w", err)
		}
		if n.Keys.Receive, err = master(s.Receive, n.Keys.Profile); err != nil {
			return fmt.Errorf("srtp.receive: %w", err)
		}
	}
	if i := e.ICE; i != nil {
		if len(i.RemoteUfrag) < 4 || len(i.RemotePassword) < 22 || len(i.LocalUfrag) < 4 || len(i.LocalPassword) < 22 {
			return errors.New("ice: user name fragments have at least 4 characters, passwords 22 (RFC 8839)")
		}
		n.ICE = &ICE{i.LocalUfrag, i.LocalPassword, i.RemoteUfrag, i.RemotePassword}
	}
	if e.DTLS != nil {
		n.DTLS, err = e.DTLS.handshake()
	}
	return err
}

// master reads a key as SDES has it (RFC 4568 section 6.1), with or without
// "inline:" and padding.
func master(text string, profile srtp.ProtectionProfile) ([]byte, error) {
	text, _, _ = strings.Cut(strings.TrimPrefix(text, "inline:"), "|")
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil, fmt.Errorf("no base64: %w", err)
	}
	if want := MasterLength(profile); len(b) != want {
		return nil, fmt.Errorf("%d bytes, %s has a master key and salt of %d", len(b), ProfileName(profile), want)
	}
	return b, nil
}

func (d *planDTLS) handshake() (*DTLS, error) {
	profile, err := ProfileNamed(d.Profile)
	if err != nil {
		return nil, fmt.Errorf("dtls.profile: %w", err)
	}
	if d.Role != "" && d.Role != "client" && d.Role != "server" {
		return nil, fmt.Errorf("dtls.role: %q, must be client or server", d.Role)
	}
	var algorithm string
	var peer []byte
	if d.Fingerprint != "" {
		var digits string
		algorithm, digits, _ = strings.Cut(d.Fingerprint, " ")
		peer, err = hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
		if hash := hashes[strings.ToLower(algorithm)]; err != nil || hash == 0 || len(peer) != hash.Size() {
			return nil, fmt.Errorf("dtls.fingerprint: %q is not as in SDP, such as \"sha-256 AB:CD:…\"", d.Fingerprint)
		}
	}
	h, err := NewDTLS(d.Role != "server", algorithm, peer, profile)
	if err != nil || d.Certificate == "" && d.Key == "" {
		return h, err
	}
	if h.Certificate, err = tls.LoadX509KeyPair(d.Certificate, d.Key); err != nil {
		return nil, fmt.Errorf("dtls.certificate and dtls.key: %w", err)
	}
	return h, nil
}

func (l *Load) streams(n int, s planStream, index map[string][]int) error {
	from, ok := index[s.From]
	if !ok {
		return fmt.Errorf("from: there is no endpoint %q", s.From)
	}
	to := index[s.To]
	switch {
	case s.To != "" && to == nil:
		return fmt.Errorf("to: there is no endpoint %q", s.To)
	case s.To != "" && len(to) != len(from):
		return fmt.Errorf("%s has %d endpoints and %s %d", s.From, len(from), s.To, len(to))
	}
	ssrc := s.SSRC
	if ssrc == 0 {
		ssrc = uint32(n+1) << 20
	}
	for i := range from {
		stream := Stream{Name: s.From + "→" + s.To, From: from[i], To: -1, SSRC: ssrc + uint32(i), Sequence: 1}
		if to != nil {
			stream.To = to[i]
		}
		if len(from) > 1 {
			stream.Name = fmt.Sprintf("%s %d", stream.Name, i)
		}
		l.Streams = append(l.Streams, stream)
	}
	return nil
}
