package srtp

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

// all profiles.
var all = []Profile{AES128GCM, AES256GCM, AES128CMSHA1, AES128CMSHA1Tag32}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func keys(p Profile) (here, there Keys) {
	a, b := bytes.Repeat([]byte{1}, p.MasterLen()), bytes.Repeat([]byte{2}, p.MasterLen())
	return Keys{p, a, b}, Keys{p, b, a}
}

func pair(t *testing.T, p Profile) (here, there *Transform) {
	t.Helper()
	a, b := keys(p)
	here, err := NewTransform(a, nil)
	if err != nil {
		t.Fatal(err)
	}
	there, err = NewTransform(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return here, there
}

func rtpPacket(ssrc uint32, seq uint16) []byte {
	b, err := (&rtp.Packet{Header: rtp.Header{Version: 2, SSRC: ssrc, SequenceNumber: seq}, Payload: []byte("payload of a packet")}).Marshal()
	if err != nil {
		panic(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	for _, p := range all {
		t.Run(p.String(), func(t *testing.T) {
			here, there := pair(t, p)
			for index := uint64(65500); index < 65600; index++ { // over a rollover
				plain := rtpPacket(7, uint16(index))
				// The peer starts with a rollover counter of 0.
				protected, err := here.Protect(nil, plain, 7, index)
				if err != nil {
					t.Fatal(err)
				}
				if bytes.Contains(protected, []byte("payload")) {
					t.Fatal("not encrypted")
				}
				got, err := there.Unprotect(nil, protected)
				if err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("index %d: %x %v", index, got, err)
				}
				if _, err := there.Unprotect(nil, protected); !errors.Is(err, ErrReplay) {
					t.Fatalf("replayed: %v", err)
				}
				protected[len(protected)-1] ^= 1
				protected[3]++
				if _, err := there.Unprotect(nil, protected); !errors.Is(err, ErrAuth) {
					t.Fatalf("tampered with: %v", err)
				}
			}
			report, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 7}})
			if err != nil {
				t.Fatal(err)
			}
			protected, err := here.ProtectRTCP(nil, report)
			if err != nil {
				t.Fatal(err)
			}
			got, err := there.UnprotectRTCP(nil, protected)
			if err != nil || !bytes.Equal(got, report) {
				t.Fatalf("RTCP: %x %v", got, err)
			}
			if _, err := there.UnprotectRTCP(nil, protected); !errors.Is(err, ErrReplay) {
				t.Errorf("RTCP replayed: %v", err)
			}
			protected[9] ^= 1
			protected[len(protected)-1] ^= 1
			if _, err := there.UnprotectRTCP(nil, protected); err == nil {
				t.Error("RTCP tampered with was accepted")
			}
		})
	}
}

// Packets with and without CSRCs and extensions follow one another.
func TestHeadersMixed(t *testing.T) {
	for _, p := range all {
		here, there := pair(t, p)
		for i := range uint16(20) {
			in := rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 7, SequenceNumber: i}, Payload: []byte("some payload")}
			if i%3 == 1 {
				in.CSRC = []uint32{1, 2, 3}
			}
			if i%4 == 2 {
				if err := in.SetExtension(1, []byte{9, 9}); err != nil {
					t.Fatal(err)
				}
			}
			plain, err := in.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			protected, err := here.Protect(nil, plain, 7, uint64(i))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := there.Unprotect(nil, protected); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%s packet %d: %x %v, want %x", p, i, got, err, plain)
			}
		}
	}
}

func BenchmarkTransform(b *testing.B) {
	for _, p := range all {
		b.Run(p.String(), func(b *testing.B) {
			k, back := keys(p)
			here, _ := NewTransform(k, nil)
			there, _ := NewTransform(back, nil)
			plain := append(rtpPacket(7, 0)[:12], make([]byte, 160)...)
			one, two := make([]byte, 0, 2048), make([]byte, 0, 2048)
			b.ReportAllocs()
			for i := range b.N {
				plain[2], plain[3] = byte(i>>8), byte(i)
				protected, err := here.Protect(one, plain, 7, uint64(i))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := there.Unprotect(two, protected); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestGarbage(t *testing.T) {
	_, there := pair(t, AES128GCM)
	for _, raw := range [][]byte{nil, {0x80}, make([]byte, 12), bytes.Repeat([]byte{0xff}, 50), rtpPacket(1, 1)[:13]} {
		if _, err := there.Unprotect(nil, raw); !errors.Is(err, ErrAuth) {
			t.Errorf("%x: %v", raw, err)
		}
		if _, err := there.UnprotectRTCP(nil, raw); !errors.Is(err, ErrAuth) {
			t.Errorf("RTCP %x: %v", raw, err)
		}
	}
	if len(there.Sources()) != 0 {
		t.Error("garbage made a source")
	}
}

// However packets are repeated and reordered, no index is protected twice.
func TestNoIndexTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, _ := keys(AES128GCM)
		here, err := NewTransform(a, nil)
		if err != nil {
			t.Fatal(err)
		}
		used := map[uint64]bool{}
		index := uint64(rapid.IntRange(2000, 70000).Draw(t, "start"))
		for range 200 {
			index = uint64(int64(index) + int64(rapid.IntRange(-1500, 1500).Draw(t, "step")))
			if int64(index) < 0 {
				index = 0
			}
			_, err := here.Protect(nil, rtpPacket(7, uint16(index)), 7, index)
			switch {
			case err == nil && used[index]:
				t.Fatalf("index %d protected twice", index)
			case err == nil:
				used[index] = true
			case !errors.Is(err, ErrDuplicate):
				t.Fatal(err)
			}
		}
	})
}

// Another node goes on from an old checkpoint: the peer understands it, nothing
// that was used is used again, and nothing received before is accepted again.
func TestRestore(t *testing.T) {
	for _, p := range all {
		t.Run(p.String(), func(t *testing.T) {
			a, _ := keys(p)
			here, there := pair(t, p)
			index := uint64(60000)
			var last []byte
			for range 3000 {
				protected, err := here.Protect(nil, rtpPacket(7, uint16(index)), 7, index)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := there.Unprotect(nil, protected); err != nil {
					t.Fatal(err)
				}
				index++
			}
			back := uint64(64000)
			for range 1000 {
				var err error
				if last, err = there.Protect(nil, rtpPacket(9, uint16(back)), 9, back); err != nil {
					t.Fatal(err)
				}
				if _, err := here.Unprotect(nil, last); err != nil {
					t.Fatal(err)
				}
				back++
			}
			for range 5 {
				if _, err := here.ProtectRTCP(nil, []byte{0x80, 201, 0, 1, 0, 0, 0, 7}); err != nil {
					t.Fatal(err)
				}
			}
			saved := here.Sources()
			used, usedRTCP := index, here.RTCPIndex(7)
			// What the first node still sent after the checkpoint.
			for range 4000 {
				protected, err := here.Protect(nil, rtpPacket(7, uint16(index)), 7, index)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := there.Unprotect(nil, protected); err != nil {
					t.Fatal(err)
				}
				index++
			}
			second, err := NewTransform(a, saved)
			if err != nil {
				t.Fatal(err)
			}
			resume, ok := second.Resume(7)
			if !ok || resume < index || resume-used > 1<<15 {
				t.Fatalf("goes on after %d, %d were used, checkpoint %d", resume, index, used)
			}
			if second.RTCPIndex(7) <= usedRTCP {
				t.Errorf("SRTCP goes on after %d, %d was used", second.RTCPIndex(7), usedRTCP)
			}
			for i := uint64(1); i < 100; i++ {
				protected, err := second.Protect(nil, rtpPacket(7, uint16(resume+i)), 7, resume+i)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := there.Unprotect(nil, protected); err != nil {
					t.Fatalf("the peer does not understand packet %d: %v", i, err)
				}
			}
			if _, err := second.Unprotect(nil, last); !errors.Is(err, ErrReplay) {
				t.Errorf("a packet from before the checkpoint: %v", err)
			}
			// The other side has rolled over in the meantime.
			for range 5000 {
				if last, err = there.Protect(nil, rtpPacket(9, uint16(back)), 9, back); err != nil {
					t.Fatal(err)
				}
				back++
			}
			for range 10 {
				if _, err := second.Unprotect(nil, last); err != nil {
					t.Fatalf("after the rollover: %v", err)
				}
				if last, err = there.Protect(nil, rtpPacket(9, uint16(back)), 9, back); err != nil {
					t.Fatal(err)
				}
				back++
			}
			for _, s := range second.Sources() {
				if s.SSRC == 9 && s.Index != back-2 {
					t.Errorf("the source stands at %d, want %d", s.Index, back-2)
				}
			}
		})
	}
}

func TestKeysValidate(t *testing.T) {
	good, _ := keys(AES256GCM)
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, bad := range []Keys{{}, {Profile: 9}, {AES128GCM, good.Local, good.Remote}, {AES256GCM, good.Local, good.Remote[1:]}} {
		if bad.Validate() == nil {
			t.Errorf("%v is accepted", bad)
		}
		if _, err := NewTransform(bad, nil); err == nil {
			t.Errorf("%v makes a transform", bad)
		}
	}
}

// A browser that changes its SSRC without end does not fill the node.
func TestSourcesAreBounded(t *testing.T) {
	here, there := pair(t, AES128CMSHA1)
	r := rand.New(rand.NewPCG(1, 2))
	for range 2 * maxSources {
		ssrc := r.Uint32()
		protected, err := here.Protect(nil, rtpPacket(ssrc, 1), ssrc, 1)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = there.Unprotect(nil, protected)
	}
	if n := len(there.Sources()); n != maxSources {
		t.Errorf("%d sources, want %d", n, maxSources)
	}
}

func other(p Profile, b byte) []byte { return bytes.Repeat([]byte{b}, p.MasterLen()) }

// One direction gets another key, the other goes on: with its replay window, its
// rollover counter, and its refusal of indices that were used.
func TestRekeyOfOneDirection(t *testing.T) {
	for _, p := range all {
		t.Run(p.String(), func(t *testing.T) {
			here, there := pair(t, p)
			send := func(from, to *Transform, index uint64) ([]byte, error) {
				t.Helper()
				protected, err := from.Protect(nil, rtpPacket(7, uint16(index)), 7, index)
				if err != nil {
					t.Fatal(err)
				}
				_, err = to.Unprotect(nil, protected)
				return protected, err
			}
			for index := uint64(65530); index < 65545; index++ {
				if _, err := send(here, there, index); err != nil {
					t.Fatal(err)
				}
				if _, err := send(there, here, index); err != nil {
					t.Fatal(err)
				}
			}
			late, err := there.Protect(nil, rtpPacket(7, 10), 7, 65546)
			if err != nil {
				t.Fatal(err)
			}
			later, err := there.Protect(nil, rtpPacket(7, 11), 7, 65547)
			if err != nil {
				t.Fatal(err)
			}
			fresh := other(p, 9)
			keysHere, keysThere := here.Keys(), there.Keys()
			keysHere.Remote, keysThere.Local = fresh, fresh
			if sends, err := here.Rekey(keysHere); err != nil || sends {
				t.Fatalf("sends %v, %v: only the peer's key changed", sends, err)
			}
			if sends, err := there.Rekey(keysThere); err != nil || !sends {
				t.Fatalf("sends %v, %v: the own key changed", sends, err)
			}
			if _, err := send(here, there, 65545); err != nil {
				t.Errorf("the direction that kept its key: %v", err)
			}
			if _, err := here.Protect(nil, rtpPacket(7, 9), 7, 65545); !errors.Is(err, ErrDuplicate) {
				t.Errorf("an index that was used: %v", err)
			}
			if _, err := here.Unprotect(nil, late); err != nil {
				t.Errorf("a packet of the key before: %v", err)
			}
			if _, err := here.Unprotect(nil, late); !errors.Is(err, ErrReplay) {
				t.Errorf("the same again: %v", err)
			}
			if _, err := send(there, here, 10); err != nil { // rollover counter 0
				t.Errorf("a packet of the new key: %v", err)
			}
			older, err := there.Protect(nil, rtpPacket(8, 1), 8, 1)
			if err != nil {
				t.Fatal(err)
			}
			here.Retire()
			if _, err := here.Unprotect(nil, older); err != nil {
				t.Errorf("after Retire: %v", err)
			}
			if _, err := here.Unprotect(nil, later); !errors.Is(err, ErrAuth) {
				t.Errorf("a retired key: %v", err)
			}
		})
	}
}

// Some peers change keys and let the rollover counter go on.
func TestRekeyKeepsRolloverCounter(t *testing.T) {
	for _, p := range all {
		t.Run(p.String(), func(t *testing.T) {
			here, there := pair(t, p)
			for index := uint64(65500); index < 65600; index++ {
				b, err := there.Protect(nil, rtpPacket(7, uint16(index)), 7, index)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := here.Unprotect(nil, b); err != nil {
					t.Fatal(err)
				}
			}
			k := here.Keys()
			k.Remote = other(p, 9)
			if _, err := here.Rekey(k); err != nil {
				t.Fatal(err)
			}
			peer, err := NewTransform(Keys{p, k.Remote, k.Local}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for index := uint64(65600); index < 65700; index++ { // the counter is 1
				b, err := peer.Protect(nil, rtpPacket(7, uint16(index)), 7, index)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := here.Unprotect(nil, b); err != nil {
					t.Fatalf("index %d: %v", index, err)
				}
			}
		})
	}
}

func TestKeysHideThemselves(t *testing.T) {
	k := Keys{AES128GCM, []byte("local secret"), []byte("remote secret")}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(format, k); got != "AEAD_AES_128_GCM keys" {
			t.Errorf("%s shows %s", format, got)
		}
	}
}
