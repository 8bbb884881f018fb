package media

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/srtp/v3"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = netip.MustParseAddr("127.0.0.1")

// through is a load of one stream each way through a relay, which harms the
// packets that go up. Both legs have the same keys: the relay does not look.
func through(t *testing.T, ip netip.Addr, codec string, profile srtp.ProtectionProfile, h harm) *Load {
	t.Helper()
	c, err := CodecNamed(codec)
	if err != nil {
		t.Fatal(err)
	}
	r := newRelay(t)
	near, far := r.port(ip), r.port(ip)
	a, b := free(t, ip), free(t, ip)
	r.forward(near, far, b, h)
	r.forward(far, near, a, nil)
	load := &Load{
		Codec: c,
		Endpoints: []Endpoint{
			{Name: "a", Local: a, Remote: address(near)},
			{Name: "b", Local: b, Remote: address(far)},
		},
		Streams: []Stream{{Name: "up", From: 0, To: 1, SSRC: 7, Sequence: 65500}, {Name: "down", From: 1, To: 0, SSRC: 8, Sequence: 1}},
	}
	if profile != 0 {
		up, down := make([]byte, MasterLength(profile)), make([]byte, MasterLength(profile))
		_, _ = rand.Read(up)
		_, _ = rand.Read(down)
		load.Endpoints[0].Keys = &Keys{profile, up, down}
		load.Endpoints[1].Keys = &Keys{profile, down, up}
	}
	return load
}

// send runs a load for about 200 packets of each stream.
func send(t *testing.T, load *Load, ahead bool) *Result {
	t.Helper()
	s, err := Connect(t.Context(), load, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := s.Run(t.Context(), Options{Duration: 400 * time.Millisecond, Rate: 500, Ahead: ahead, Every: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEveryProtectionArrives(t *testing.T) {
	six := netip.IPv6Loopback()
	for _, c := range []struct {
		name    string
		ip      netip.Addr
		codec   string
		profile srtp.ProtectionProfile
		ahead   bool
	}{
		{"plain", loopback, "pcmu", 0, false},
		{"plain, IPv6, Opus", six, "opus", 0, false},
		{"CM", loopback, "pcma", srtp.ProtectionProfileAes128CmHmacSha1_80, false},
		{"GCM-128, IPv6", six, "pcmu", srtp.ProtectionProfileAeadAes128Gcm, false},
		{"GCM-256 ahead of time", loopback, "opus", srtp.ProtectionProfileAeadAes256Gcm, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := send(t, through(t, c.ip, c.codec, c.profile, nil), c.ahead)
			want := Counters{Sent: 400, Received: 400}
			if r.Total != want || r.Verified != 400 {
				t.Errorf("counted %+v, %d verified", r.Total, r.Verified)
			}
			if r.Latency.P50 <= 0 || r.Latency.P99 < r.Latency.P50 || r.Latency.Max < r.Latency.P999 || len(r.Bars) == 0 || len(r.Series) == 0 {
				t.Errorf("latency %+v, %d bars, %d samples", r.Latency, len(r.Bars), len(r.Series))
			}
			var sent, received uint64
			for _, s := range r.Series {
				sent, received = sent+s.Sent, received+s.Received
			}
			if sent != 400 || received != 400 {
				t.Errorf("the series has %d sent and %d received", sent, received)
			}
		})
	}
}

// What a target does wrong is counted as that, exactly, and nothing else is.
func TestHarmIsSeen(t *testing.T) {
	var held []byte
	flip := func(at int) harm {
		return func(n int, p []byte, forward func([]byte)) {
			if n%10 == 3 {
				p[at] ^= 1
			}
			forward(p)
		}
	}
	cm := srtp.ProtectionProfileAes128CmHmacSha1_80
	for name, c := range map[string]struct {
		profile srtp.ProtectionProfile
		harm    harm
		want    Counters
	}{
		"drops": {0, func(n int, p []byte, forward func([]byte)) {
			if n%10 != 3 {
				forward(p)
			}
		}, Counters{Sent: 400, Received: 380, Lost: 20}},
		"doubles": {cm, func(n int, p []byte, forward func([]byte)) {
			forward(p)
			if n%10 == 3 {
				forward(p)
			}
		}, Counters{Sent: 400, Received: 400, Duplicates: 20}},
		"swaps": {cm, func(n int, p []byte, forward func([]byte)) {
			switch n % 10 {
			case 3:
				held = bytes.Clone(p)
			case 4:
				forward(p)
				forward(held)
			default:
				forward(p)
			}
		}, Counters{Sent: 400, Received: 400, Reordered: 20}},
		"corrupts SRTP":             {cm, flip(40), Counters{Sent: 400, Received: 380, Lost: 20, AuthFailures: 20}},
		"corrupts the SRTP tag":     {srtp.ProtectionProfileAeadAes128Gcm, flip(185), Counters{Sent: 400, Received: 380, Lost: 20, AuthFailures: 20}},
		"corrupts plain media":      {0, flip(100), Counters{Sent: 400, Received: 380, Lost: 20, Corrupt: 20}},
		"corrupts the payload type": {0, flip(1), Counters{Sent: 400, Received: 380, Lost: 20, Corrupt: 20}},
		"mixes streams up":          {0, flip(headerSize + 7), Counters{Sent: 400, Received: 380, Lost: 20, Foreign: 20}},
		"sends what nobody sent":    {0, flip(headerSize + 8), Counters{Sent: 400, Received: 380, Lost: 20, Corrupt: 20}},
		"cuts packets short": {0, func(n int, p []byte, forward func([]byte)) {
			if n%10 == 3 {
				p = p[:len(p)-1]
			}
			forward(p)
		}, Counters{Sent: 400, Received: 380, Lost: 20, Corrupt: 20}},
	} {
		t.Run(name, func(t *testing.T) {
			r := send(t, through(t, loopback, "pcmu", c.profile, c.harm), false)
			if r.Total != c.want {
				t.Errorf("counted %+v\nwant %+v", r.Total, c.want)
			}
		})
	}
}

// A target may give streams another SSRC, sequence and clock.
func TestRewritingIsNoHarm(t *testing.T) {
	r := send(t, through(t, loopback, "pcmu", 0, func(_ int, p []byte, forward func([]byte)) {
		binary.BigEndian.PutUint16(p[2:], binary.BigEndian.Uint16(p[2:])+30000)
		binary.BigEndian.PutUint32(p[4:], binary.BigEndian.Uint32(p[4:])*3)
		binary.BigEndian.PutUint32(p[8:], 0xabcdef)
		forward(p)
	}), false)
	if want := (Counters{Sent: 400, Received: 400}); r.Total != want {
		t.Errorf("counted %+v", r.Total)
	}
}

// However packets of a stream are lost, repeated and shuffled within the span
// that a tally looks back, it counts each once and knows the rest.
func TestTally(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Uint64Range(0, 1<<40).Draw(t, "start")
		order := rapid.SliceOfN(rapid.Uint64Range(0, span-1), 1, 400).Draw(t, "order")
		var tally tally
		seen, highest, reordered := map[uint64]bool{}, uint64(0), uint64(0)
		for i, offset := range order {
			n := start + offset
			if first := tally.take(n); first == seen[n] {
				t.Fatalf("packet %d: first %v", n, first)
			}
			if !seen[n] && i > 0 && n < highest {
				reordered++
			}
			seen[n], highest = true, max(highest, n)
		}
		if tally.received != uint64(len(seen)) || tally.duplicates != uint64(len(order)-len(seen)) || tally.reordered != reordered {
			t.Fatalf("counted %d, %d twice, %d out of order; want %d, %d, %d", tally.received, tally.duplicates, tally.reordered, len(seen), len(order)-len(seen), reordered)
		}
	})
	var tally tally
	tally.take(5)
	tally.take(5 + 3*span)
	if tally.take(5) || !tally.take(6+2*span) || tally.take(6+2*span) {
		t.Error("a leap is not survived")
	}
}

// Both ends of a call shake hands through the relay.
func TestDTLS(t *testing.T) {
	for _, profile := range []srtp.ProtectionProfile{srtp.ProtectionProfileAes128CmHmacSha1_80, srtp.ProtectionProfileAeadAes128Gcm} {
		load := through(t, loopback, "pcmu", 0, nil)
		client, err := NewDTLS(true, "", nil, profile)
		if err != nil {
			t.Fatal(err)
		}
		server, err := NewDTLS(false, "SHA-256", client.Fingerprint(), profile)
		if err != nil {
			t.Fatal(err)
		}
		client.Algorithm, client.Peer = "sha-256", server.Fingerprint()
		load.Endpoints[0].DTLS, load.Endpoints[1].DTLS = client, server
		r := send(t, load, false)
		if want := (Counters{Sent: 400, Received: 400}); r.Total != want || r.Protection != ProfileName(profile) {
			t.Errorf("%s: counted %+v", r.Protection, r.Total)
		}
	}
}

func TestConnectChecksWhoIsThere(t *testing.T) {
	t.Run("certificate", func(t *testing.T) {
		load := through(t, loopback, "pcmu", 0, nil)
		profile := srtp.ProtectionProfileAeadAes128Gcm
		server, err := NewDTLS(false, "", nil, profile)
		if err != nil {
			t.Fatal(err)
		}
		client, err := NewDTLS(true, "sha-256", make([]byte, 32), profile)
		if err != nil {
			t.Fatal(err)
		}
		load.Endpoints[0].DTLS, load.Endpoints[1].DTLS = client, server
		refused(t, t.Context(), load, "fingerprint")
	})
	t.Run("ICE", func(t *testing.T) {
		load := through(t, loopback, "pcmu", 0, nil)
		load.Endpoints[0].ICE = &ICE{"abcd", strings.Repeat("x", 22), "efgh", strings.Repeat("y", 22)}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		refused(t, ctx, load, "deadline")
	})
}

func refused(t *testing.T, ctx context.Context, load *Load, want string) {
	t.Helper()
	s, err := Connect(ctx, load, "")
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "endpoint ") || !strings.Contains(err.Error(), want) {
		t.Errorf("connected: %v", err)
	}
}
