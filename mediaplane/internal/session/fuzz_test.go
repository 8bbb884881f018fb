package session

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/icelite"
)

// FuzzReceive gives a node datagrams on both of its kinds of ports, from
// addresses that it knows and from one that it does not. None of them that is
// not signed or protected changes where the node sends, or makes it grow.
func FuzzReceive(f *testing.F) {
	f.Add(uint8(0), check("ufrag1", true))
	f.Add(uint8(1), []byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(uint8(0), append([]byte{0x80, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5}, bytes.Repeat([]byte{7}, 100)...))
	f.Add(uint8(0), []byte{0x80, 200, 0, 6, 0, 0, 0, 5})
	f.Add(uint8(2), append([]byte{0x80, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5}, bytes.Repeat([]byte{7}, 100)...))
	f.Add(uint8(2), []byte{})
	b := setup(f)
	spec := restored(f, "1")
	spec.Legs = append(spec.Legs, telcoLeg())
	b.apply(spec)
	s := b.sessions["1"]
	browser, far := s.legs["w"].(*webrtcLeg), s.legs["t"].(*rtpLeg)
	known := path(9)
	f.Fuzz(func(t *testing.T, where uint8, datagram []byte) {
		before, sending := bytes.Clone(datagram), *browser.path.Load()
		switch where % 3 {
		case 0:
			b.mux.receive(datagram, known, nil)
		case 1:
			b.mux.receive(datagram, icelite.Path{Remote: netip.MustParseAddrPort("192.0.2.1:5")}, nil)
		case 2:
			far.receive(datagram, netip.MustParseAddrPort("127.0.0.1:11"), nil)
			far.receiveControl(datagram, netip.MustParseAddrPort("127.0.0.1:11"), nil)
		}
		if !bytes.Equal(before, datagram) {
			t.Fatal("the datagram was changed")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if p := browser.path.Load(); p == nil || *p != sending && !signed(datagram) {
			t.Fatalf("sends to the browser at %v", p)
		}
		if n := len(browser.transform.Sources()); n != 1 {
			t.Fatalf("%d sources, want the one that was restored", n)
		}
	})
}

// signed: it holds what only who knows the password can make.
func signed(datagram []byte) bool {
	return icelite.Respond(datagram, path(9).Remote, func(string) (icelite.Credentials, bool) {
		return icelite.Credentials{LocalUfrag: "ufrag1", LocalPassword: password}, true
	}).Verdict == icelite.Accepted
}
