package session

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/icelite"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is the time that a manager under test sees.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

type bench struct {
	*Manager
	t       testing.TB
	clock   *clock
	watcher *Watcher
}

func setup(t testing.TB) *bench {
	t.Helper()
	engine := fastpath.NewUser("chosen by configuration")
	loopback := netip.MustParseAddr("127.0.0.1")
	m, err := New(Config{
		WebRTC: []netip.AddrPort{netip.AddrPortFrom(loopback, 0)}, RTP: []netip.Addr{loopback}, PortMin: 34000, PortMax: 34099,
		MaxSessions: 10, OrphanAfter: time.Minute, HandshakeTimeout: 5 * time.Second, QualityInterval: 5 * time.Second,
		CheckpointInterval: 4 * time.Second, TickInterval: time.Second, WatchBuffer: 1024,
		Engine: engine, Metrics: NewMetrics(nil), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	m.now, m.mux.now = c.Now, c.Now
	t.Cleanup(m.Close)
	b := &bench{Manager: m, t: t, clock: c, watcher: m.Watch()}
	t.Cleanup(b.watcher.Close)
	return b
}

func (b *bench) apply(spec *mediav1.SessionSpec) *mediav1.SessionState {
	b.t.Helper()
	st, err := b.Apply(spec)
	if err != nil {
		b.t.Fatal(err)
	}
	return st
}

// events takes what was reported so far.
func (b *bench) events() []*mediav1.SessionEvent {
	var list []*mediav1.SessionEvent
	for {
		select {
		case e := <-b.watcher.Events():
			list = append(list, e)
		default:
			return list
		}
	}
}

func count(list []*mediav1.SessionEvent, match func(*mediav1.SessionEvent) bool) int {
	n := 0
	for _, e := range list {
		if match(e) {
			n++
		}
	}
	return n
}

const password = "thepasswordofthisside1"

func dtlsIdentity(t interface{ Fatal(...any) }) *mediav1.DTLSIdentity {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &mediav1.DTLSIdentity{Certificate: der, PrivateKey: pkcs8}
}

// restored is a session whose browser was connected on another node.
func restored(t testing.TB, id string) *mediav1.SessionSpec {
	return &mediav1.SessionSpec{
		Id: id, OwnerEpoch: 1, Generation: 1,
		Legs: []*mediav1.Leg{{Id: "w", Transport: &mediav1.Leg_Webrtc{Webrtc: &mediav1.WebRTCTransport{
			LocalIce: &mediav1.ICECredentials{Ufrag: "ufrag" + id, Password: password}, LocalDtls: dtlsIdentity(t),
			DtlsRole: mediav1.DTLSRole_DTLS_ROLE_SERVER,
			Remote:   &mediav1.SocketAddress{Ip: "127.0.0.1", Port: 9},
			Srtp: &mediav1.SRTPState{
				Profile:     mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_128_GCM,
				LocalMaster: bytes.Repeat([]byte{1}, 28), RemoteMaster: bytes.Repeat([]byte{2}, 28),
				Sources: []*mediav1.SRTPSource{{Ssrc: 5, Outgoing: true, LastSequence: 77, RtcpIndex: 3}},
			},
		}}}},
		Streams: []*mediav1.Stream{{Id: "s", Leg: "w", Direction: mediav1.Direction_DIRECTION_SENDRECV, Ssrc: 5,
			Formats: []*mediav1.Format{{PayloadType: 0, Encoding: "PCMU", ClockRate: 8000}}}},
	}
}

// telcoLeg is a leg on a port of the node's choice.
func telcoLeg() *mediav1.Leg {
	return &mediav1.Leg{Id: "t", Transport: &mediav1.Leg_Rtp{Rtp: &mediav1.RTPTransport{RtcpMux: true, Remote: &mediav1.SocketAddress{Ip: "127.0.0.1", Port: 11}}}}
}

func check(ufrag string, nominate bool) []byte {
	setters := []stun.Setter{stun.TransactionID, stun.BindingRequest, stun.NewUsername(ufrag + ":peer")}
	if nominate {
		setters = append(setters, stun.RawAttribute{Type: stun.AttrUseCandidate})
	}
	return stun.MustBuild(append(setters, stun.NewShortTermIntegrity(password), stun.Fingerprint)...).Raw
}

func path(port uint16) icelite.Path {
	return icelite.Path{Remote: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)}
}

func TestConsentLostAndRegained(t *testing.T) {
	b := setup(t)
	if st := b.apply(restored(t, "1")).GetLegs()[0]; !st.GetIceConnected() || !st.GetDtlsConnected() {
		t.Fatalf("restored leg: %v", st)
	}
	failed := func(e *mediav1.SessionEvent) bool { return e.GetLegFailed().GetLeg() == "w" }
	b.tick(b.clock.add(29 * time.Second))
	if count(b.events(), failed) != 0 {
		t.Fatal("consent lost early")
	}
	b.tick(b.clock.add(time.Second))
	b.tick(b.clock.add(time.Second))
	if n := count(b.events(), failed); n != 1 {
		t.Fatalf("%d failures reported, want 1", n)
	}
	s := b.sessions["1"]
	if r := s.SendRTP("w", make([]byte, 12), 5, 1<<20); r != 2 {
		t.Errorf("sending without consent: %d", r)
	}
	b.mux.check(check("ufrag1", false), path(9), nil)
	if n := count(b.events(), func(e *mediav1.SessionEvent) bool { return e.GetIceConnected() != nil }); n != 1 {
		t.Errorf("%d connections reported after consent came back, want 1", n)
	}
	if st := s.State().GetLegs()[0]; !st.GetIceConnected() {
		t.Errorf("%v", st)
	}
}

// Nobody takes a path that somebody else holds; one that was left is free.
func TestPathsAreHeld(t *testing.T) {
	b := setup(t)
	b.apply(restored(t, "1"))
	b.apply(restored(t, "2"))
	b.mux.check(check("ufrag1", true), path(1000), nil)
	first, second := b.sessions["1"].legs["w"].(*webrtcLeg), b.sessions["2"].legs["w"].(*webrtcLeg)
	b.mux.check(check("ufrag2", true), path(1000), nil)
	if b.mux.owner(path(1000)) != first {
		t.Fatal("a path with fresh consent changed hands")
	}
	b.clock.add(icelite.ConsentTimeout)
	b.mux.check(check("ufrag2", true), path(1000), nil)
	if b.mux.owner(path(1000)) != second {
		t.Fatal("a path that was left is not given away")
	}
	if _, err := b.Remove("2", 1); err != nil {
		t.Fatal(err)
	}
	if b.mux.owner(path(1000)) != nil || len(b.mux.ufrags) != 1 {
		t.Errorf("left after removal: %v", b.mux.ufrags)
	}
}

// Every watcher that comes gets checkpoints, also when nothing moves.
func TestCheckpointForNewWatcher(t *testing.T) {
	b := setup(t)
	b.apply(restored(t, "1"))
	isCheckpoint := func(e *mediav1.SessionEvent) bool { return e.GetCheckpoint() != nil }
	b.tick(b.clock.add(4 * time.Second))
	list := b.events()
	if count(list, isCheckpoint) != 1 {
		t.Fatalf("%v", list)
	}
	for _, e := range list {
		if c := e.GetCheckpoint(); c != nil {
			src := c.GetSrtp().GetSources()[0]
			if src.GetSsrc() != 5 || src.GetLastSequence() <= 77 || src.GetRtcpIndex() <= 3 || c.GetRemote().GetPort() != 9 {
				t.Errorf("checkpoint %v", c)
			}
		}
	}
	b.tick(b.clock.add(4 * time.Second))
	if n := count(b.events(), isCheckpoint); n != 0 {
		t.Errorf("%d checkpoints although nothing moved", n)
	}
	late := b.Watch()
	defer late.Close()
	b.tick(b.clock.add(4 * time.Second))
	if n := count(b.events(), isCheckpoint); n != 1 {
		t.Errorf("%d checkpoints for the watcher that came, want 1", n)
	}
}

func TestOrphans(t *testing.T) {
	b := setup(t)
	spec := restored(t, "1")
	spec.OrphanAfter = durationpb.New(10 * time.Second)
	b.apply(spec)
	b.tick(b.clock.add(time.Hour)) // watched
	if len(b.sessions) != 1 {
		t.Fatal("ended although watched")
	}
	b.watcher.Close()
	b.tick(b.clock.add(9 * time.Second))
	if len(b.sessions) != 1 {
		t.Fatal("ended early")
	}
	b.apply(spec) // the same again is a claim
	b.tick(b.clock.add(9 * time.Second))
	if len(b.sessions) != 1 {
		t.Fatal("ended although claimed")
	}
	b.tick(b.clock.add(time.Second))
	if len(b.sessions) != 0 {
		t.Fatal("never ends")
	}
}

// A plan that cannot be carried out leaves what is there, and nothing of its own.
func TestRollback(t *testing.T) {
	b := setup(t)
	b.apply(restored(t, "1"))
	before := b.apply(restored(t, "2"))
	free := b.ports.Free()
	spec := restored(t, "2")
	spec.Generation = 2
	spec.Legs = append(spec.Legs,
		&mediav1.Leg{Id: "t", Transport: &mediav1.Leg_Rtp{Rtp: &mediav1.RTPTransport{}}},
		&mediav1.Leg{Id: "x", Transport: &mediav1.Leg_Webrtc{Webrtc: proto.Clone(spec.Legs[0].GetWebrtc()).(*mediav1.WebRTCTransport)}})
	spec.Legs[0].GetWebrtc().LocalIce.Ufrag = "fresh"
	spec.Legs[2].GetWebrtc().LocalIce.Ufrag = "ufrag1" // of the other session
	_, err := b.Apply(spec)
	var field *FieldError
	if !errors.As(err, &field) || field.Field != "legs[2].webrtc.local_ice.ufrag" {
		t.Fatalf("%v", err)
	}
	after := b.sessions["2"].State()
	if !proto.Equal(before, after) {
		t.Errorf("was %v, is %v", before, after)
	}
	if b.ports.Free() != free {
		t.Error("ports are lost")
	}
	if _, taken := b.mux.ufrags["fresh"]; taken || len(b.mux.ufrags) != 2 {
		t.Errorf("names are lost: %v", b.mux.ufrags)
	}
	if b.mux.ufrags["ufrag1"].leg != b.sessions["1"].legs["w"] {
		t.Error("the other session lost its name")
	}
}

// Changes, packets, ticks and removals at once: for the race detector.
func TestAtOnce(t *testing.T) {
	b := setup(t)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	specs := []*mediav1.SessionSpec{restored(t, "1"), restored(t, "2")}
	var wg sync.WaitGroup
	for i, spec := range specs {
		wg.Go(func() {
			for g := uint64(1); ctx.Err() == nil; g++ {
				s := proto.Clone(spec).(*mediav1.SessionSpec)
				s.Generation = g
				if g%3 == 0 {
					s.Legs[0].GetWebrtc().LocalIce.Ufrag += "r"
				}
				if _, err := b.Apply(s); err != nil {
					t.Errorf("session %d generation %d: %v", i, g, err)
					return
				}
				if g%50 == 0 {
					if _, err := b.Remove(s.GetId(), 1); err != nil {
						t.Error(err)
					}
				}
			}
		})
		wg.Go(func() {
			for port := uint16(1); ctx.Err() == nil; port++ {
				b.mux.check(check("ufrag"+spec.GetId(), true), path(2000+port%50), nil)
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			b.tick(b.clock.add(time.Second))
			b.States()
			b.events()
		}
	})
	wg.Wait()
}
