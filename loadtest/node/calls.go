package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"time"

	"connectrpc.com/connect"
	"github.com/pion/srtp/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-gateway/isthmus/loadtest/media"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// Keying of the first leg of a call.
type Keying string

// Keyings: two RTP legs; a browser leg whose keys are in the spec, so that no
// handshake is needed; a browser leg with ICE and DTLS.
const (
	Plain Keying = "none"
	SDES  Keying = "sdes"
	DTLS  Keying = "dtls"
)

// Plan of calls. Each call is a session with two legs and a stream each way.
type Plan struct {
	Calls   int
	Keying  Keying
	Profile srtp.ProtectionProfile
	Codec   media.Codec
	// Browser and Core are where the load tester's ends of the legs are; port 0
	// lets the system choose, otherwise they count up from there.
	Browser, Core netip.AddrPort
	// Prefix of the sessions' names; must differ between load testers of a node.
	Prefix string
}

// Calls are sessions that a node has.
type Calls struct {
	client *Client
	plan   Plan
	specs  []*mediav1.SessionSpec
	// Load is what goes through them.
	Load *media.Load
}

// parallel programming requests.
const parallel = 8

// orphanAfter ends the sessions of a load tester that died.
const orphanAfter = 10 * time.Minute

// Call programs the calls of a plan. On an error nothing of them is left.
func (c *Client) Call(ctx context.Context, p Plan) (_ *Calls, err error) {
	if p.Calls < 1 {
		return nil, fmt.Errorf("%d calls", p.Calls)
	}
	id, err := newIdentity()
	if err != nil {
		return nil, err
	}
	calls := &Calls{client: c, plan: p, specs: make([]*mediav1.SessionSpec, p.Calls)}
	load := &media.Load{Codec: p.Codec, Endpoints: make([]media.Endpoint, 2*p.Calls), Streams: make([]media.Stream, 2*p.Calls)}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i := range p.Calls {
		g.Go(func() error { return calls.program(gctx, i, id, load) })
	}
	if err := g.Wait(); err != nil {
		return nil, errors.Join(err, calls.Remove(context.WithoutCancel(ctx)))
	}
	calls.Load = load
	return calls, nil
}

func (c *Calls) program(ctx context.Context, i int, id *identity, load *media.Load) error {
	p := c.plan
	browser := media.Endpoint{Name: fmt.Sprintf("call-%d-browser", i), Local: nth(p.Browser, i)}
	core := media.Endpoint{Name: fmt.Sprintf("call-%d-core", i), Local: nth(p.Core, i)}
	spec := &mediav1.SessionSpec{
		Id: fmt.Sprintf("%s-%d", p.Prefix, i), OwnerEpoch: 1, Generation: 1, OrphanAfter: durationpb.New(orphanAfter),
		Legs: []*mediav1.Leg{
			{Id: "browser", Transport: &mediav1.Leg_Rtp{Rtp: c.rtp(browser.Local)}},
			{Id: "core", Transport: &mediav1.Leg_Rtp{Rtp: c.rtp(core.Local)}},
		},
	}
	up, down := uint32(2*i+1), uint32(2*i+2)
	if p.Keying != Plain {
		leg, err := c.webrtc(i, id, &browser, up, down)
		if err != nil {
			return err
		}
		spec.Legs[0].Transport = &mediav1.Leg_Webrtc{Webrtc: leg}
	}
	format := []*mediav1.Format{{PayloadType: uint32(p.Codec.PayloadType), Encoding: encoding(p.Codec), ClockRate: p.Codec.Clock, Channels: 1}}
	spec.Streams = []*mediav1.Stream{
		{Id: "b", Leg: "browser", Direction: mediav1.Direction_DIRECTION_SENDRECV, Formats: format, Cname: "load", Ssrc: down | 1<<31},
		{Id: "c", Leg: "core", Direction: mediav1.Direction_DIRECTION_SENDRECV, Formats: format, Cname: "load", Ssrc: up | 1<<31},
	}
	same := []*mediav1.PayloadMapping{{From: uint32(p.Codec.PayloadType), To: uint32(p.Codec.PayloadType)}}
	spec.Rules = []*mediav1.Rule{
		{Input: "b", Outputs: []*mediav1.Output{{Stream: "c", Payloads: same}}},
		{Input: "c", Outputs: []*mediav1.Output{{Stream: "b", Payloads: same}}},
	}
	c.specs[i] = spec
	state, err := c.client.apply(ctx, spec)
	if err != nil {
		return err
	}
	if browser.Remote, err = local(state, 0, browser.Local); err != nil {
		return err
	}
	if core.Remote, err = local(state, 1, core.Local); err != nil {
		return err
	}
	load.Endpoints[2*i], load.Endpoints[2*i+1] = browser, core
	load.Streams[2*i] = media.Stream{Name: fmt.Sprintf("call-%d-up", i), From: 2 * i, To: 2*i + 1, SSRC: up, Sequence: 1000}
	load.Streams[2*i+1] = media.Stream{Name: fmt.Sprintf("call-%d-down", i), From: 2*i + 1, To: 2 * i, SSRC: down, Sequence: 1000}
	return nil
}

// encoding name as in SDP.
func encoding(c media.Codec) string {
	switch c.Name {
	case "pcmu", "pcma":
		return map[string]string{"pcmu": "PCMU", "pcma": "PCMA"}[c.Name]
	}
	return c.Name
}

func nth(a netip.AddrPort, i int) netip.AddrPort {
	if a.Port() == 0 {
		return a
	}
	return netip.AddrPortFrom(a.Addr(), a.Port()+uint16(i))
}

// rtp is a leg to the load tester; with port 0 the node learns the port from the
// first packet.
func (c *Calls) rtp(at netip.AddrPort) *mediav1.RTPTransport {
	t := &mediav1.RTPTransport{Local: &mediav1.SocketAddress{Ip: unspecified(at.Addr()).String()}, RtcpMux: true}
	if at.Port() != 0 {
		t.Remote = address(at)
	}
	return t
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// local is the node's address of a leg, of the family of the other side.
func local(s *mediav1.SessionState, leg int, peer netip.AddrPort) (netip.AddrPort, error) {
	for _, a := range s.GetLegs()[leg].GetLocal() {
		ip, err := netip.ParseAddr(a.GetIp())
		if err == nil && ip.Is4() == peer.Addr().Is4() {
			return netip.AddrPortFrom(ip, uint16(a.GetPort())), nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("the node has no address for %s on leg %s", peer.Addr(), s.GetLegs()[leg].GetId())
}

func (c *Calls) webrtc(i int, id *identity, e *media.Endpoint, up, down uint32) (*mediav1.WebRTCTransport, error) {
	p := c.plan
	e.ICE = &media.ICE{
		LocalUfrag: token(6), LocalPassword: token(18),
		RemoteUfrag: token(6), RemotePassword: token(18),
	}
	t := &mediav1.WebRTCTransport{
		LocalIce:     &mediav1.ICECredentials{Ufrag: e.ICE.RemoteUfrag, Password: e.ICE.RemotePassword},
		RemoteIce:    &mediav1.ICECredentials{Ufrag: e.ICE.LocalUfrag, Password: e.ICE.LocalPassword},
		LocalDtls:    id.proto,
		DtlsRole:     mediav1.DTLSRole_DTLS_ROLE_SERVER,
		SrtpProfiles: []mediav1.SRTPProfile{profile(p.Profile)},
	}
	if p.Keying == DTLS {
		d, err := media.NewDTLS(true, "sha-256", id.fingerprint, p.Profile)
		if err != nil {
			return nil, err
		}
		e.DTLS = d
		t.RemoteFingerprints = []*mediav1.Fingerprint{{Algorithm: "sha-256", Value: d.Fingerprint()}}
		return t, nil
	}
	n := media.MasterLength(p.Profile)
	keys := &media.Keys{Profile: p.Profile, Send: make([]byte, n), Receive: make([]byte, n)}
	_, _ = rand.Read(keys.Send)
	_, _ = rand.Read(keys.Receive)
	e.Keys = keys
	if e.Local.Port() == 0 {
		return nil, errors.New("a browser leg with keys needs the port that it comes from")
	}
	t.Remote = address(e.Local)
	t.Srtp = &mediav1.SRTPState{
		Profile: profile(p.Profile), LocalMaster: keys.Receive, RemoteMaster: keys.Send,
		Sources: []*mediav1.SRTPSource{{Ssrc: down | 1<<31, Outgoing: true}},
	}
	return t, nil
}

func address(a netip.AddrPort) *mediav1.SocketAddress {
	return &mediav1.SocketAddress{Ip: a.Addr().String(), Port: uint32(a.Port())}
}

func profile(p srtp.ProtectionProfile) mediav1.SRTPProfile {
	switch p {
	case srtp.ProtectionProfileAeadAes128Gcm:
		return mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_128_GCM
	case srtp.ProtectionProfileAeadAes256Gcm:
		return mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_256_GCM
	}
	return mediav1.SRTPProfile_SRTP_PROFILE_AES128_CM_HMAC_SHA1_80
}

// token of letters and digits, + and / (RFC 8839 section 5.4).
func token(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b)
	return base64.RawStdEncoding.EncodeToString(b)
}

// Engines counts the streams by what executes them, and the reasons for those
// that nothing faster does.
func (c *Calls) Engines(ctx context.Context) (engines, reasons map[string]int, err error) {
	snapshot, err := c.client.snapshot(ctx)
	if err != nil {
		return nil, nil, err
	}
	own := map[string]bool{}
	for _, s := range c.specs {
		own[s.GetId()] = true
	}
	engines, reasons = map[string]int{}, map[string]int{}
	for _, s := range snapshot.GetSessions() {
		if !own[s.GetId()] {
			continue
		}
		for _, st := range s.GetStreams() {
			engines[st.GetEngine()]++
			if r := st.GetEngineReason(); r != "" {
				reasons[r]++
			}
		}
	}
	return engines, reasons, nil
}

// Remove ends the calls.
func (c *Calls) Remove(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, s := range c.specs {
		if s == nil {
			continue
		}
		g.Go(func() error {
			_, err := c.client.rpc.RemoveSession(ctx, connect.NewRequest(&mediav1.RemoveSessionRequest{Id: s.GetId(), OwnerEpoch: s.GetOwnerEpoch()}))
			if err != nil {
				return fmt.Errorf("remove session %s: %w", s.GetId(), err)
			}
			return nil
		})
	}
	return g.Wait()
}

// identity is the certificate that the node shows in the calls.
type identity struct {
	proto       *mediav1.DTLSIdentity
	fingerprint []byte
}

func newIdentity() (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "load test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(certificate)
	return &identity{&mediav1.DTLSIdentity{Certificate: certificate, PrivateKey: private}, sum[:]}, nil
}
