package srtp

import (
	"bytes"
	"testing"
)

// FuzzUnprotect gives a transform packets that nobody protected: none is taken,
// none makes it grow, and the packets of who has the keys are taken after them.
func FuzzUnprotect(f *testing.F) {
	keys := func(p Profile) Keys {
		return Keys{Profile: p, Local: bytes.Repeat([]byte{1}, p.MasterLen()), Remote: bytes.Repeat([]byte{1}, p.MasterLen())}
	}
	plain := append([]byte{0x80, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5}, bytes.Repeat([]byte{7}, 160)...)
	for i := range all {
		f.Add(uint8(i), plain)
		f.Add(uint8(i), []byte{0x80, 200, 0, 1, 0, 0, 0, 5, 0x80, 0, 0, 1})
		f.Add(uint8(i), []byte{0xbf, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff})
	}
	f.Fuzz(func(t *testing.T, which uint8, packet []byte) {
		k := keys(all[int(which)%len(all)])
		peer, err := NewTransform(k, nil)
		if err != nil {
			t.Fatal(err)
		}
		us, err := NewTransform(k, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := us.Unprotect(nil, packet); err == nil {
			t.Fatalf("%x was taken", packet)
		}
		if _, err := us.UnprotectRTCP(nil, packet); err == nil {
			t.Fatalf("%x was taken as RTCP", packet)
		}
		if _, err := us.Authenticate(nil, packet); err == nil || len(us.Sources()) != 0 {
			t.Fatalf("%v, %d sources", err, len(us.Sources()))
		}
		protected, err := peer.Protect(nil, plain, 5, 9)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := us.Unprotect(nil, protected); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("afterwards: %v", err)
		}
	})
}
