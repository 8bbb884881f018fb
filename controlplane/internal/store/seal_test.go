package store

import (
	"bytes"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"
)

func testSealer(t interface{ Fatal(...any) }, keys ...byte) *sealer {
	var all [][]byte
	for _, k := range keys {
		all = append(all, bytes.Repeat([]byte{k}, keySize))
	}
	s, err := newSealer(all)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The first test vectors of C2SP's XAES-256-GCM: one for each parity of the
// subkey's carry.
func TestXAESVectors(t *testing.T) {
	for _, v := range []struct {
		key       byte
		aad, want string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		key, err := newSealingKey(bytes.Repeat([]byte{v.key}, keySize))
		if err != nil {
			t.Fatal(err)
		}
		nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
		aead, err := key.aead(nonce)
		if err != nil {
			t.Fatal(err)
		}
		got := aead.Seal(nil, nonce[12:], []byte("XAES-256-GCM"), []byte(v.aad))
		if hex.EncodeToString(got) != v.want {
			t.Errorf("key %d: got %x, want %s", v.key, got, v.want)
		}
	}
}

func TestSealRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		where := rapid.String().Draw(t, "place")
		old, current := testSealer(t, 1), testSealer(t, 2, 1)
		blob, err := old.seal(plain, where)
		if err != nil {
			t.Fatal(err)
		}
		got, err := current.open(blob, where)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("got %x, %v", got, err)
		}
		if _, err := current.open(blob, where+"x"); err == nil {
			t.Fatal("opened in another place")
		}
		i := rapid.IntRange(0, len(blob)-1).Draw(t, "flip")
		blob[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := current.open(blob, where); err == nil {
			t.Fatalf("opened with byte %d changed", i)
		}
		if _, err := current.open(blob[:i], where); err == nil {
			t.Fatal("opened when cut off")
		}
	})
}

func TestNewerVersionIsRefused(t *testing.T) {
	s := testSealer(t, 1)
	blob, err := s.seal([]byte(`{"v":2,"d":"x"}`), "p")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := openJSON[string](s, blob, "p"); err == nil {
		t.Errorf("read %q", v)
	}
}
