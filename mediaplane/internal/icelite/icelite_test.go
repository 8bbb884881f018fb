package icelite

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

const password = "the password of this side"

var source = netip.MustParseAddrPort("192.0.2.7:4321")

func lookup(creds ...Credentials) func(string) (Credentials, bool) {
	return func(ufrag string) (Credentials, bool) {
		for _, c := range creds {
			if c.LocalUfrag == ufrag {
				return c, true
			}
		}
		return Credentials{}, false
	}
}

var known = lookup(
	Credentials{LocalUfrag: "here", LocalPassword: password, RemoteUfrag: "there"},
	Credentials{LocalUfrag: "early", LocalPassword: password},
)

func request(setters ...stun.Setter) []byte {
	return stun.MustBuild(append([]stun.Setter{stun.TransactionID, stun.BindingRequest}, setters...)...).Raw
}

func attr(t stun.AttrType, v ...byte) stun.Setter { return stun.RawAttribute{Type: t, Value: v} }

func TestRespond(t *testing.T) {
	integrity := stun.NewShortTermIntegrity(password)
	user := stun.NewUsername("here:there")
	cases := []struct {
		name     string
		message  []byte
		verdict  Verdict
		nominate bool
		code     stun.ErrorCode
	}{
		{"a check", request(user, attr(stun.AttrPriority, 1, 2, 3, 4), attr(stun.AttrICEControlling, 1, 2, 3, 4, 5, 6, 7, 8), integrity, stun.Fingerprint), Accepted, false, 0},
		{"a nomination", request(user, attr(stun.AttrUseCandidate), integrity, stun.Fingerprint), Accepted, true, 0},
		{"without fingerprint", request(user, integrity), Accepted, false, 0},
		{"before the remote side is known", request(stun.NewUsername("early:anything"), integrity, stun.Fingerprint), Accepted, false, 0},
		{"optional attributes of browsers", request(user, attr(0xc057, 0, 1, 0, 2), integrity, stun.Fingerprint), Accepted, false, 0},
		{"nomination after the integrity", request(user, integrity, attr(stun.AttrUseCandidate), stun.Fingerprint), Accepted, false, 0},
		{"wrong password", request(user, stun.NewShortTermIntegrity("another"), stun.Fingerprint), BadIntegrity, false, 0},
		{"no integrity", request(user, stun.Fingerprint), BadIntegrity, false, 0},
		{"no user name", request(integrity, stun.Fingerprint), Foreign, false, 0},
		{"user name without colon", request(stun.NewUsername("here"), integrity, stun.Fingerprint), Foreign, false, 0},
		{"unknown session", request(stun.NewUsername("nobody:there"), integrity, stun.Fingerprint), Foreign, false, 0},
		{"wrong remote side", request(stun.NewUsername("here:else"), integrity, stun.Fingerprint), Foreign, false, 0},
		{"role conflict", request(user, attr(stun.AttrICEControlled, 1, 2, 3, 4, 5, 6, 7, 8), integrity, stun.Fingerprint), Refused, false, stun.CodeRoleConflict},
		{"attribute that must be understood", request(user, attr(0x0055, 1), integrity, stun.Fingerprint), Refused, false, stun.CodeUnknownAttribute},
		{"indication", stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodBinding, stun.ClassIndication), stun.Fingerprint).Raw, Indication, false, 0},
		{"a response", stun.MustBuild(stun.TransactionID, stun.BindingSuccess, integrity, stun.Fingerprint).Raw, Foreign, false, 0},
		{"allocate", stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), user, integrity).Raw, Foreign, false, 0},
		{"garbage", []byte{0, 1, 0, 0}, Malformed, false, 0},
		{"empty", nil, Malformed, false, 0},
	}
	broken := request(user, integrity, stun.Fingerprint)
	broken[len(broken)-1] ^= 1
	cases = append(cases, cases[0])
	cases[len(cases)-1].name, cases[len(cases)-1].message, cases[len(cases)-1].verdict = "broken fingerprint", broken, Malformed

	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := bytes.Clone(c.message)
			r := Respond(c.message, source, known)
			if r.Verdict != c.verdict || r.UseCandidate != c.nominate {
				t.Fatalf("verdict %d nominated %v, want %d %v", r.Verdict, r.UseCandidate, c.verdict, c.nominate)
			}
			if !bytes.Equal(before, c.message) {
				t.Error("the message was changed")
			}
			if c.verdict != Accepted && c.verdict != Refused {
				if r.Response != nil {
					t.Errorf("answered with %x", r.Response)
				}
				return
			}
			answer := &stun.Message{Raw: r.Response}
			if err := answer.Decode(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(answer.TransactionID[:], c.message[8:20]) {
				t.Error("another transaction")
			}
			if err := integrity.Check(answer); err != nil {
				t.Errorf("integrity: %v", err)
			}
			if err := stun.Fingerprint.Check(answer); err != nil {
				t.Errorf("fingerprint: %v", err)
			}
			if c.verdict == Refused {
				var code stun.ErrorCodeAttribute
				if err := code.GetFrom(answer); err != nil || code.Code != c.code {
					t.Errorf("error code %v %v, want %d", code.Code, err, c.code)
				}
				return
			}
			var mapped stun.XORMappedAddress
			if err := mapped.GetFrom(answer); err != nil || mapped.String() != source.String() || answer.Type != stun.BindingSuccess {
				t.Errorf("%s %s %v", answer.Type, mapped, err)
			}
		})
	}
}

func TestRespondIPv6(t *testing.T) {
	from := netip.MustParseAddrPort("[2001:db8::1]:9")
	r := Respond(request(stun.NewUsername("here:there"), stun.NewShortTermIntegrity(password), stun.Fingerprint), from, known)
	answer := &stun.Message{Raw: r.Response}
	var mapped stun.XORMappedAddress
	if err := answer.Decode(); err != nil {
		t.Fatal(err)
	}
	if err := mapped.GetFrom(answer); err != nil || mapped.String() != from.String() {
		t.Errorf("%s %v", mapped, err)
	}
}

func FuzzRespond(f *testing.F) {
	f.Add(request(stun.NewUsername("here:there"), attr(stun.AttrUseCandidate), stun.NewShortTermIntegrity(password), stun.Fingerprint))
	f.Add(request(stun.NewUsername("here:there"), stun.Fingerprint))
	f.Add([]byte{0, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := Respond(raw, source, known)
		if (r.Response != nil) != (r.Verdict == Accepted || r.Verdict == Refused) {
			t.Fatalf("verdict %d, response %x", r.Verdict, r.Response)
		}
		if r.UseCandidate && r.Verdict != Accepted {
			t.Fatal("nominated by a message that was not accepted")
		}
	})
}

func TestAssociation(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	path := func(port uint16) Path { return Path{Remote: netip.AddrPortFrom(source.Addr(), port)} }
	var a Association
	if _, ok := a.Usable(); ok || a.Connected() || a.Expire(start.Add(time.Hour)) {
		t.Fatal("an association without checks is usable")
	}
	if added, changed, _ := a.Check(path(1), false, start); !added || changed {
		t.Error("the first check")
	}
	a.Check(path(2), false, start)
	if p, _ := a.Usable(); p != path(2) || a.Connected() {
		t.Errorf("before nomination: %v", p)
	}
	if _, changed, _ := a.Check(path(1), true, start); !changed || !a.Connected() {
		t.Error("the nomination")
	}
	if p, _ := a.Usable(); p != path(1) {
		t.Errorf("after nomination: %v", p)
	}
	if _, changed, _ := a.Check(path(1), true, start); changed {
		t.Error("the same nomination again is a change")
	}
	if _, changed, _ := a.Check(path(2), true, start); !changed {
		t.Error("another nomination is no change")
	}
	if a.Expire(start.Add(ConsentTimeout - 1)) {
		t.Error("expired early")
	}
	a.Check(path(2), false, start.Add(20*time.Second))
	if a.Expire(start.Add(ConsentTimeout)) {
		t.Error("a check without nomination is consent too")
	}
	end := start.Add(20*time.Second + ConsentTimeout)
	if !a.Expire(end) || a.Expire(end) || a.Connected() {
		t.Error("does not expire, once")
	}
	if _, ok := a.Usable(); ok {
		t.Error("usable without consent")
	}
	if _, changed, _ := a.Check(path(2), false, end); !changed || !a.Connected() {
		t.Error("consent given again does not revive the selected path")
	}
	for port := range uint16(100) {
		a.Check(path(1000+port), false, end)
	}
	if n := len(a.Paths()); n != maxPaths {
		t.Errorf("%d paths, want %d", n, maxPaths)
	}
	if p, _ := a.Selected(); p != path(2) || !a.knows(path(2)) {
		t.Error("the selected path was forgotten")
	}
	var restored Association
	restored.Restore(path(5), start)
	if p, ok := restored.Usable(); !ok || p != path(5) || !restored.Connected() {
		t.Error("a restored path is not used")
	}
	if !restored.Expire(start.Add(ConsentTimeout)) {
		t.Error("a restored path needs no consent")
	}
}
