package mediaplane_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-gateway/isthmus/mediaplane"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
	"github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1/mediav1connect"
)

func code(t *testing.T, err error, want connect.Code) *connect.Error {
	t.Helper()
	if connect.CodeOf(err) != want {
		t.Fatalf("error %v, want %v", err, want)
	}
	var e *connect.Error
	if ce, ok := err.(*connect.Error); ok {
		e = ce
	}
	return e
}

func plain(id string) *mediav1.SessionSpec {
	return &mediav1.SessionSpec{
		Id: id, OwnerEpoch: 3, Generation: 5,
		Legs:    []*mediav1.Leg{{Id: "telco", Transport: &mediav1.Leg_Rtp{Rtp: &mediav1.RTPTransport{}}}},
		Streams: []*mediav1.Stream{{Id: "t", Leg: "telco", Direction: mediav1.Direction_DIRECTION_SENDRECV, Formats: formats(0)}},
	}
}

func TestGenerations(t *testing.T) {
	n := start(t, nil)
	state := n.apply(plain("s"))
	again := n.apply(plain("s"))
	if !proto.Equal(state, again) {
		t.Errorf("the same generation again changed %v to %v", state, again)
	}
	for _, stale := range [][2]uint64{{3, 4}, {2, 100}} {
		spec := plain("s")
		spec.OwnerEpoch, spec.Generation = stale[0], stale[1]
		_, err := n.tryApply(spec)
		e := code(t, err, connect.CodeAborted)
		if len(e.Details()) != 1 {
			t.Fatalf("details %v", e.Details())
		}
		detail, err := e.Details()[0].Value()
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := detail.(*mediav1.StaleSpec); !ok || d.GetOwnerEpoch() != 3 || d.GetGeneration() != 5 {
			t.Errorf("detail %v", detail)
		}
	}
	spec := plain("s")
	spec.OwnerEpoch, spec.Generation = 4, 1
	if s := n.apply(spec); s.GetOwnerEpoch() != 4 || s.GetGeneration() != 1 || !proto.Equal(s.GetLegs()[0].GetLocal()[0], state.GetLegs()[0].GetLocal()[0]) {
		t.Errorf("a new owner: %v", s)
	}
	_, err := n.client.RemoveSession(context.Background(), connect.NewRequest(&mediav1.RemoveSessionRequest{Id: "s", OwnerEpoch: 3}))
	code(t, err, connect.CodeAborted)
	resp, err := n.client.RemoveSession(context.Background(), connect.NewRequest(&mediav1.RemoveSessionRequest{Id: "s", OwnerEpoch: 4}))
	if err != nil || resp.Msg.GetState().GetId() != "s" {
		t.Fatalf("remove: %v %v", resp, err)
	}
	n.events.find(t, "SessionRemoved", func(e *mediav1.SessionEvent) bool { return e.GetRemoved().GetReason() == "requested" })
	resp, err = n.client.RemoveSession(context.Background(), connect.NewRequest(&mediav1.RemoveSessionRequest{Id: "s", OwnerEpoch: 4}))
	if err != nil || resp.Msg.GetState() != nil {
		t.Errorf("remove again: %v %v", resp, err)
	}
}

func TestPortExhaustion(t *testing.T) {
	n := start(t, func(c *mediaplane.Config) { c.RTP.PortMin, c.RTP.PortMax = 32000, 32007 })
	free := n.node().GetCapacity().GetFreeRtpPorts()
	if free != 8 {
		t.Fatalf("%d free ports, want 8", free)
	}
	for i := range 4 {
		n.apply(plain(fmt.Sprintf("s%d", i)))
	}
	_, err := n.tryApply(plain("one too many"))
	code(t, err, connect.CodeResourceExhausted)
	if c := n.node().GetCapacity(); c.GetSessions() != 4 || c.GetFreeRtpPorts() != 0 {
		t.Errorf("after the refusal: %v", c)
	}
	// A change that cannot be made leaves the session as it was.
	bigger := plain("s0")
	bigger.Generation++
	bigger.Legs = append(bigger.Legs, &mediav1.Leg{Id: "another", Transport: &mediav1.Leg_Rtp{Rtp: &mediav1.RTPTransport{}}})
	_, err = n.tryApply(bigger)
	code(t, err, connect.CodeResourceExhausted)
	if s := n.apply(plain("s0")); s.GetGeneration() != 5 || len(s.GetLegs()) != 1 {
		t.Errorf("the failed change left %v", s)
	}
	if _, err := n.client.RemoveSession(context.Background(), connect.NewRequest(&mediav1.RemoveSessionRequest{Id: "s3", OwnerEpoch: 3})); err != nil {
		t.Fatal(err)
	}
	if s := n.apply(bigger); len(s.GetLegs()) != 2 {
		t.Errorf("with a free port: %v", s)
	}
}

func TestSessionLimit(t *testing.T) {
	n := start(t, func(c *mediaplane.Config) { c.Limits.Sessions = 1 })
	n.apply(plain("a"))
	_, err := n.tryApply(plain("b"))
	code(t, err, connect.CodeResourceExhausted)
}

func TestDrain(t *testing.T) {
	n := start(t, nil)
	n.apply(plain("a"))
	resp, err := n.client.Drain(context.Background(), connect.NewRequest(&mediav1.DrainRequest{}))
	if err != nil || resp.Msg.GetSessions() != 1 {
		t.Fatalf("%v %v", resp, err)
	}
	_, err = n.tryApply(plain("b"))
	code(t, err, connect.CodeUnavailable)
	next := plain("a")
	next.Generation++
	if s := n.apply(next); s.GetGeneration() != 6 {
		t.Errorf("a session that is there: %v", s)
	}
	if !n.node().GetDraining() {
		t.Error("the node does not say that it is draining")
	}
}

func TestOrphans(t *testing.T) {
	n := start(t, func(c *mediaplane.Config) { c.Timers.OrphanAfter = time.Second })
	kept, short := plain("kept"), plain("short")
	kept.OrphanAfter, short.OrphanAfter = durationpb.New(time.Hour), durationpb.New(300*time.Millisecond)
	n.apply(kept)
	n.apply(short)
	// While somebody watches, nothing is orphaned.
	n.events.until(t, "heartbeats", func() bool { return n.events.beats >= 40 })
	if c := n.node().GetCapacity().GetSessions(); c != 2 {
		t.Fatalf("%d sessions while watched, want 2", c)
	}
	n.events.cancel()
	n.events.wait()
	eventually(t, "the short-lived session ends", func() bool { return n.node().GetCapacity().GetSessions() == 1 })
	if s := n.apply(kept); s.GetGeneration() != 5 {
		t.Errorf("the other one: %v", s)
	}
}

func TestShutdownTellsWatchers(t *testing.T) {
	n := start(t, nil)
	n.apply(plain("s"))
	n.stop()
	n.events.find(t, "SessionRemoved", func(e *mediav1.SessionEvent) bool {
		return e.GetRemoved().GetReason() == "shutdown" && e.GetRemoved().GetState().GetId() == "s"
	})
}

func TestSnapshot(t *testing.T) {
	n := start(t, nil)
	n.apply(plain("s"))
	late := newEvents()
	late.watch(t, n.client)
	if s := late.snapshot; len(s.GetSessions()) != 1 || s.GetSessions()[0].GetId() != "s" || s.GetNode().GetId() != "test" || s.GetNode().GetIncarnation() == "" {
		t.Errorf("snapshot %v", s)
	}
	late.cancel()
	late.wait()
}

func TestInvalidSpecs(t *testing.T) {
	n := start(t, nil)
	id := newIdentity(t)
	cases := []struct {
		field  string
		change func(*mediav1.SessionSpec)
	}{
		{"id", func(s *mediav1.SessionSpec) { s.Id = "" }},
		{"id", func(s *mediav1.SessionSpec) { s.Id = strings.Repeat("x", 129) }},
		{"orphan_after", func(s *mediav1.SessionSpec) { s.OrphanAfter = durationpb.New(-1) }},
		{"media_timeout", func(s *mediav1.SessionSpec) { s.MediaTimeout = durationpb.New(48 * time.Hour) }},
		{"legs[0].id", func(s *mediav1.SessionSpec) { s.Legs[0].Id = "" }},
		{"legs[1].id", func(s *mediav1.SessionSpec) { s.Legs[1].Id = "browser" }},
		{"legs[0].transport", func(s *mediav1.SessionSpec) { s.Legs[0].Transport = nil }},
		{"legs[0].webrtc.local_ice", func(s *mediav1.SessionSpec) { webrtcOf(s).LocalIce = nil }},
		{"legs[0].webrtc.local_ice.ufrag", func(s *mediav1.SessionSpec) { webrtcOf(s).LocalIce.Ufrag = "abc" }},
		{"legs[0].webrtc.local_ice.ufrag", func(s *mediav1.SessionSpec) { webrtcOf(s).LocalIce.Ufrag = "ab:cd" }},
		{"legs[0].webrtc.local_ice.password", func(s *mediav1.SessionSpec) { webrtcOf(s).LocalIce.Password = "short" }},
		{"legs[0].webrtc.remote_ice.ufrag", func(s *mediav1.SessionSpec) {
			webrtcOf(s).RemoteIce = &mediav1.ICECredentials{Ufrag: "a", Password: strings.Repeat("p", 22)}
		}},
		{"legs[0].webrtc.local_dtls", func(s *mediav1.SessionSpec) { webrtcOf(s).LocalDtls = nil }},
		{"legs[0].webrtc.local_dtls.certificate", func(s *mediav1.SessionSpec) { webrtcOf(s).LocalDtls.Certificate = []byte("no") }},
		{"legs[0].webrtc.local_dtls.private_key", func(s *mediav1.SessionSpec) { webrtcOf(s).LocalDtls.PrivateKey = []byte("no") }},
		{"legs[0].webrtc.local_dtls.private_key", func(s *mediav1.SessionSpec) {
			webrtcOf(s).LocalDtls.PrivateKey = newIdentity(t).proto.GetPrivateKey()
		}},
		{"legs[0].webrtc.dtls_role", func(s *mediav1.SessionSpec) { webrtcOf(s).DtlsRole = 0 }},
		{"legs[0].webrtc.remote_fingerprints[0].algorithm", func(s *mediav1.SessionSpec) {
			webrtcOf(s).RemoteFingerprints = []*mediav1.Fingerprint{{Algorithm: "md5", Value: make([]byte, 16)}}
		}},
		{"legs[0].webrtc.remote_fingerprints[0].value", func(s *mediav1.SessionSpec) {
			webrtcOf(s).RemoteFingerprints = []*mediav1.Fingerprint{{Algorithm: "sha-256", Value: make([]byte, 31)}}
		}},
		{"legs[0].webrtc.srtp_profiles[0]", func(s *mediav1.SessionSpec) { webrtcOf(s).SrtpProfiles = []mediav1.SRTPProfile{9} }},
		{"legs[0].webrtc.srtp", func(s *mediav1.SessionSpec) {
			webrtcOf(s).Srtp = &mediav1.SRTPState{Profile: mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_128_GCM, LocalMaster: make([]byte, 30)}
		}},
		{"legs[0].webrtc.remote", func(s *mediav1.SessionSpec) { webrtcOf(s).Srtp = restored() }},
		{"legs[0].webrtc.srtp.sources", func(s *mediav1.SessionSpec) {
			webrtcOf(s).Srtp, webrtcOf(s).Remote = restored(), &mediav1.SocketAddress{Ip: "127.0.0.1", Port: 9}
		}},
		{"legs[1].rtp.local.ip", func(s *mediav1.SessionSpec) {
			s.Legs[1].GetRtp().Local = &mediav1.SocketAddress{Ip: "192.0.2.1"}
		}},
		{"legs[1].rtp.local.ip", func(s *mediav1.SessionSpec) { s.Legs[1].GetRtp().Local = &mediav1.SocketAddress{Ip: "::"} }},
		{"legs[1].rtp.local.port", func(s *mediav1.SessionSpec) {
			s.Legs[1].GetRtp().Local = &mediav1.SocketAddress{Ip: "127.0.0.1", Port: 99}
		}},
		{"legs[1].rtp.remote.ip", func(s *mediav1.SessionSpec) {
			s.Legs[1].GetRtp().Remote = &mediav1.SocketAddress{Ip: "example.com", Port: 9}
		}},
		{"legs[1].rtp.remote.port", func(s *mediav1.SessionSpec) {
			s.Legs[1].GetRtp().Remote = &mediav1.SocketAddress{Ip: "127.0.0.1", Port: 70000}
		}},
		{"legs[1].rtp.srtp", func(s *mediav1.SessionSpec) {
			s.Legs[1].GetRtp().Srtp = &mediav1.SRTPState{Profile: mediav1.SRTPProfile_SRTP_PROFILE_AES128_CM_HMAC_SHA1_32, LocalMaster: make([]byte, 28)}
		}},
		{"legs[1].rtp.srtp.remote_master", func(s *mediav1.SessionSpec) {
			s.Legs[1].GetRtp().Srtp = restored()
			s.Legs[1].GetRtp().Srtp.RemoteMaster = make([]byte, 28)
		}},
		{"legs[1].rtp.srtp.sources", func(s *mediav1.SessionSpec) {
			s.Legs[1].GetRtp().Srtp, s.Streams[1].Ssrc = restored(), 5
			s.Legs[1].GetRtp().Srtp.Sources = []*mediav1.SRTPSource{{Ssrc: 6, Outgoing: true}}
		}},
		{"legs[0].webrtc.srtp_profiles[0]", func(s *mediav1.SessionSpec) {
			webrtcOf(s).SrtpProfiles = []mediav1.SRTPProfile{mediav1.SRTPProfile_SRTP_PROFILE_AES128_CM_HMAC_SHA1_32}
		}},
		{"streams[0].leg", func(s *mediav1.SessionSpec) { s.Streams[0].Leg = "nobody" }},
		{"streams[1].id", func(s *mediav1.SessionSpec) { s.Streams[1].Id = "b" }},
		{"streams[0].direction", func(s *mediav1.SessionSpec) { s.Streams[0].Direction = 0 }},
		{"streams[0].formats[0].payload_type", func(s *mediav1.SessionSpec) { s.Streams[0].Formats[0].PayloadType = 128 }},
		{"streams[0].formats[1].payload_type", func(s *mediav1.SessionSpec) { s.Streams[0].Formats[1].PayloadType = 0 }},
		{"streams[0].formats[0].clock_rate", func(s *mediav1.SessionSpec) { s.Streams[0].Formats[0].ClockRate = 0 }},
		{"streams[0].formats[0].encoding", func(s *mediav1.SessionSpec) { s.Streams[0].Formats[0].Encoding = "" }},
		{"rules[0].input", func(s *mediav1.SessionSpec) { s.Rules[0].Input = "nothing" }},
		{"rules[1].input", func(s *mediav1.SessionSpec) { s.Rules[1].Input = "b" }},
		{"rules[0].outputs[0].stream", func(s *mediav1.SessionSpec) { s.Rules[0].Outputs[0].Stream = "nothing" }},
		{"rules[1].outputs[0].stream", func(s *mediav1.SessionSpec) { s.Rules[1].Outputs[0].Stream = "t" }},
		{"rules[0].outputs[0].payloads[0].from", func(s *mediav1.SessionSpec) { s.Rules[0].Outputs[0].Payloads[0].From = 5 }},
		{"rules[0].outputs[0].payloads[0].to", func(s *mediav1.SessionSpec) { s.Rules[0].Outputs[0].Payloads[0].To = 96 }},
		{"rules[0].outputs[0].payloads[0].to", func(s *mediav1.SessionSpec) { s.Streams[1].Formats[0].ClockRate = 16000 }},
	}
	for i, c := range cases {
		t.Run(fmt.Sprintf("%02d %s", i, c.field), func(t *testing.T) {
			spec := proto.Clone(baseSpec("x", id, server)).(*mediav1.SessionSpec)
			c.change(spec)
			_, err := n.tryApply(spec)
			e := code(t, err, connect.CodeInvalidArgument)
			if !strings.HasPrefix(e.Message(), c.field+":") {
				t.Errorf("%q does not name %s", e.Message(), c.field)
			}
		})
	}
	_, err := n.tryApply(nil)
	code(t, err, connect.CodeInvalidArgument)
	if c := n.node().GetCapacity(); c.GetSessions() != 0 || c.GetFreeRtpPorts() != 1000 {
		t.Errorf("refused specs left %v", c)
	}
	// Two sessions cannot have one user name fragment.
	n.apply(baseSpec("x", id, server))
	twin := baseSpec("x", id, server)
	twin.Id = "y"
	_, err = n.tryApply(twin)
	if e := code(t, err, connect.CodeInvalidArgument); !strings.HasPrefix(e.Message(), "legs[0].webrtc.local_ice.ufrag:") {
		t.Errorf("%q", e.Message())
	}
}

func restored() *mediav1.SRTPState {
	return &mediav1.SRTPState{Profile: mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_128_GCM, LocalMaster: make([]byte, 28), RemoteMaster: bytes.Repeat([]byte{1}, 28)}
}

func TestAuthentication(t *testing.T) {
	n := start(t, nil)
	for name, token := range map[string]string{"none": "", "wrong": "another secret of planes", "prefix": secret[:len(secret)-1], "longer": secret + "x"} {
		transport := h2c()
		c := client(n.plane.URL(), token, transport)
		_, err := c.GetNode(context.Background(), connect.NewRequest(&mediav1.GetNodeRequest{}))
		if connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("%s: GetNode: %v", name, err)
		}
		stream, err := c.Watch(context.Background(), connect.NewRequest(&mediav1.WatchRequest{}))
		if err == nil {
			if stream.Receive() {
				t.Errorf("%s: Watch sends", name)
			}
			err = stream.Err()
			_ = stream.Close()
		}
		if connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("%s: Watch: %v", name, err)
		}
		transport.CloseIdleConnections()
	}
}

// authority makes certificates in files.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.make(name, nil, nil)
	return a
}

func (a *authority) make(name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: parent == nil,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

func (a *authority) issue(name string) tls.Certificate {
	a.t.Helper()
	a.make(name, a.cert, a.key)
	pair, err := tls.LoadX509KeyPair(filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key"))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func TestMutualTLS(t *testing.T) {
	ca, stranger := newAuthority(t, "ca"), newAuthority(t, "stranger")
	ca.issue("node")
	cfg := config()
	cfg.RPC.SharedSecret = ""
	cfg.RPC.Certificate, cfg.RPC.Key, cfg.RPC.ClientCA = ca.file("node.crt"), ca.file("node.key"), ca.file("ca.crt")
	plane, err := mediaplane.New(cfg, mediaplane.Deps{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- plane.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for _, test := range []struct {
		name  string
		certs []tls.Certificate
		ok    bool
	}{
		{"issued by the authority", []tls.Certificate{ca.issue("control")}, true},
		{"issued by another", []tls.Certificate{stranger.issue("control")}, false},
		{"none", nil, false},
	} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool(), Certificates: test.certs}, ForceAttemptHTTP2: true}
		_, err := client(plane.URL(), "", transport).GetNode(ctx, connect.NewRequest(&mediav1.GetNodeRequest{}))
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
		transport.CloseIdleConnections()
	}
}

// registry is a control plane that hears announcements.
type registry struct {
	mediav1connect.UnimplementedNodeRegistryHandler
	heard chan *mediav1.Node
	auth  chan string
	fail  chan struct{} // one failure for each entry
}

func (r *registry) Announce(_ context.Context, req *connect.Request[mediav1.AnnounceRequest]) (*connect.Response[mediav1.AnnounceResponse], error) {
	select {
	case <-r.fail:
		return nil, connect.NewError(connect.CodeUnavailable, nil)
	default:
	}
	select {
	case r.heard <- req.Msg.GetNode():
		r.auth <- req.Header().Get("Authorization")
	default:
	}
	return connect.NewResponse(&mediav1.AnnounceResponse{Interval: durationpb.New(10 * time.Millisecond)}), nil
}

func TestAnnounce(t *testing.T) {
	r := &registry{heard: make(chan *mediav1.Node, 3), auth: make(chan string, 3), fail: make(chan struct{}, 1)}
	r.fail <- struct{}{}
	mux := http.NewServeMux()
	mux.Handle(mediav1connect.NewNodeRegistryHandler(r))
	control := httptest.NewUnstartedServer(mux)
	control.Config.Protocols = new(http.Protocols)
	control.Config.Protocols.SetUnencryptedHTTP2(true)
	control.Start()
	defer control.Close()
	dead, err := net.Listen("tcp", "127.0.0.1:0") // accepts nothing: holds up nobody
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dead.Close() }()

	n := start(t, func(c *mediaplane.Config) { c.ControlPlanes = []string{"http://" + dead.Addr().String(), control.URL} })
	for range 3 { // the interval of the answer is kept to
		select {
		case node := <-r.heard:
			if node.GetId() != "test" || node.GetUrl() != n.plane.URL() || len(node.GetWebrtcAddresses()) != 1 || node.GetRtpAddresses()[0].GetIp() != "127.0.0.1" ||
				node.GetEngine() != "user" || node.GetCapacity().GetMaxSessions() == 0 || node.GetIncarnation() == "" {
				t.Errorf("announced %v", node)
			}
			if a := <-r.auth; a != "Bearer "+secret {
				t.Errorf("authorization %q", a)
			}
		case <-time.After(patient):
			t.Fatal("not announced")
		}
	}
	n.stop()
}

func TestValidate(t *testing.T) {
	if err := config().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key    string
		change func(*mediaplane.Config)
	}{
		{"rpc.listen", func(c *mediaplane.Config) { c.RPC.Listen = "nonsense" }},
		{"rpc.listen", func(c *mediaplane.Config) { c.RPC.Listen = "0.0.0.0:7070" }},
		{"rpc.listen", func(c *mediaplane.Config) { c.RPC.Listen = ":7070" }},
		{"rpc.shared_secret", func(c *mediaplane.Config) { c.RPC.SharedSecret = "" }},
		{"rpc.shared_secret", func(c *mediaplane.Config) { c.RPC.SharedSecret = "short" }},
		{"rpc.certificate", func(c *mediaplane.Config) { c.RPC.Certificate = "x" }},
		{"rpc.certificate", func(c *mediaplane.Config) { c.RPC.Certificate, c.RPC.Key = "/nowhere/x", "/nowhere/y" }},
		{"rpc.client_ca", func(c *mediaplane.Config) { c.RPC.ClientCA = "x" }},
		{"rpc.url", func(c *mediaplane.Config) { c.RPC.URL = "ftp://x" }},
		{"control_planes[0]", func(c *mediaplane.Config) { c.ControlPlanes = []string{"http://192.0.2.1:80"} }},
		{"control_planes[1]", func(c *mediaplane.Config) { c.ControlPlanes = []string{"https://a", "b"} }},
		{"webrtc.bind", func(c *mediaplane.Config) { c.WebRTC.Bind = nil }},
		{"webrtc.bind[0]", func(c *mediaplane.Config) { c.WebRTC.Bind = []string{"host"} }},
		{"webrtc.advertise[0]", func(c *mediaplane.Config) { c.WebRTC.Advertise = []string{"0.0.0.0"} }},
		{"rtp.bind[0]", func(c *mediaplane.Config) { c.RTP.Bind = []string{"x"} }},
		{"rtp.advertise", func(c *mediaplane.Config) { c.RTP.Advertise = []string{"192.0.2.1", "192.0.2.2"} }},
		{"rtp.port_min", func(c *mediaplane.Config) { c.RTP.PortMax = c.RTP.PortMin }},
		{"engine", func(c *mediaplane.Config) { c.Engine = "warp" }},
		{"limits.sessions", func(c *mediaplane.Config) { c.Limits.Sessions = 0 }},
		{"limits.watch_buffer", func(c *mediaplane.Config) { c.Limits.WatchBuffer = 1 }},
		{"timers.checkpoint", func(c *mediaplane.Config) { c.Timers.Checkpoint = 6 * time.Second }},
		{"timers.orphan_after", func(c *mediaplane.Config) { c.Timers.OrphanAfter = 0 }},
	} {
		cfg := config()
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), c.key) {
			t.Errorf("%s: %v", c.key, err)
		}
	}
}

// A port that is taken is found before anything runs, and the key is named.
func TestBusyPorts(t *testing.T) {
	busyTCP, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busyTCP.Close() }()
	busyUDP := newFar(t)
	for key, change := range map[string]func(*mediaplane.Config){
		"rpc.listen":  func(c *mediaplane.Config) { c.RPC.Listen = busyTCP.Addr().String() },
		"webrtc.port": func(c *mediaplane.Config) { c.WebRTC.Port = uint16(busyUDP.addr().GetPort()) },
	} {
		cfg := config()
		change(&cfg)
		if _, err := mediaplane.New(cfg, mediaplane.Deps{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}); err == nil || !strings.HasPrefix(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// A watcher that takes nothing is cut off; the others and the media go on.
func TestSlowWatcher(t *testing.T) {
	n := start(t, func(c *mediaplane.Config) { c.Limits.WatchBuffer = 1024 })
	transport := h2c()
	transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 64 << 10}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	slow, err := client(n.plane.URL(), secret, transport).Watch(ctx, connect.NewRequest(&mediav1.WatchRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	spec := plain("s")
	spec.Streams[0].Formats = formats(0, 101)
	far := newFar(t)
	far.to = addrPort(t, n.apply(spec).GetLegs()[0].GetLocal()[0])
	digits := func() int {
		return n.events.count(func(e *mediav1.SessionEvent) bool { return e.GetDtmf() != nil })
	}
	key := func() {
		p := far.packet([]byte{1, 0x80, 0, 160})
		p.PayloadType = 101
		far.send(p)
	}
	eventually(t, "the slow watcher is given up", func() bool {
		received := n.apply(spec).GetStreams()[0].GetCounters().GetReceivedPackets()
		for range 50 {
			if digits()+200 < int(received) {
				break // the other watcher is to keep up
			}
			key()
		}
		return n.metric("isthmus_media_watchers_lost_total") == 1
	})
	before := digits()
	eventually(t, "digits at the other watcher", func() bool {
		key()
		return digits() > before
	})
	for slow.Receive() {
	}
	if slow.Err() == nil {
		t.Error("the slow watcher was not told")
	}
	_ = slow.Close()
}
