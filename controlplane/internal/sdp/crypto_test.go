package sdp

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	key80  = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"
	key128 = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHA=="
)

func TestParseCrypto(t *testing.T) {
	for _, c := range []struct {
		line string
		want string // tag and suite, or what the error says
		soft bool   // well formed, but not supported
	}{
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80, "1 AES_CM_128_HMAC_SHA1_80", false},
		{"1 aes_cm_128_hmac_sha1_32 INLINE:" + key80, "1 AES_CM_128_HMAC_SHA1_32", false},
		{"999999999 AEAD_AES_128_GCM inline:" + key128, "999999999 AEAD_AES_128_GCM", false},
		{"2 AEAD_AES_128_GCM inline:" + strings.TrimRight(key128, "="), "2 AEAD_AES_128_GCM", false},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + "|2^48", "1 AES_CM_128_HMAC_SHA1_80", false},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + "|1048576", "1 AES_CM_128_HMAC_SHA1_80", false},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + "|2^31 WSH=128 KDR=0", "1 AES_CM_128_HMAC_SHA1_80", false},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + " -vendor=1", "1 AES_CM_128_HMAC_SHA1_80", false},

		{"1 AES_CM_128_HMAC_SHA1_80", "no tag, suite and key", false},
		{"x AES_CM_128_HMAC_SHA1_80 inline:" + key80, "tag", false},
		{"1000000000 AES_CM_128_HMAC_SHA1_80 inline:" + key80, "tag", false},
		{"1 F8_128_HMAC_SHA1_80 inline:" + key80, "F8_128", true},
		{"1 NULL_HMAC_SHA1_80 inline:" + key80, "NULL", true},
		{"1 AES_CM_128_HMAC_SHA1_80 uri:" + key80, "inline", false},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:****", "base64", false},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key128, "28 bytes", false},
		{"1 AEAD_AES_256_GCM inline:" + key80, "30 bytes", false},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + "|2^20|1:4", "MKI", true},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + "|1:4", "MKI", true},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + "|2^49", "lifetime", false},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + "|2^99", "lifetime", false},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + "|0", "lifetime", false},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + "|soon", "lifetime", false},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + "|1000", "lifetime", true},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + ";inline:" + key80, "several", true},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + " UNENCRYPTED_SRTP", "UNENCRYPTED_SRTP", true},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + " UNENCRYPTED_SRTCP", "UNENCRYPTED_SRTCP", true},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + " unauthenticated_srtp", "UNAUTHENTICATED_SRTP", true},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + " KDR=4", "KDR", true},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + " FEC_ORDER=FEC_SRTP", "FEC_ORDER", true},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + " vendor=1", "VENDOR", true},
	} {
		got, err := parseCrypto(c.line)
		if err == nil {
			if got.String() != c.want || len(got.Master) != MasterLength(got.Suite) {
				t.Errorf("%s\nis %s with %d bytes, want %s", c.line, got, len(got.Master), c.want)
			}
			continue
		}
		checkFuzzError(t, err)
		e := err.(*Error)
		if !strings.Contains(e.Reason, c.want) || e.Unacceptable != c.soft {
			t.Errorf("%s\n%v (unsupported %t), want %s (%t)", c.line, err, e.Unacceptable, c.want, c.soft)
		}
		if strings.Contains(e.Reason, key80[:8]) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

// audio composes a description of the audio m-lines given.
func audio(lines ...string) string {
	return "v=0\r\no=- 1 1 IN IP4 192.0.2.33\r\ns=-\r\nc=IN IP4 192.0.2.33\r\nt=0 0\r\n" + strings.Join(lines, "\r\n") + "\r\n"
}

// Which of an offer's m-lines is taken, by policy.
func TestSRTPPolicies(t *testing.T) {
	const (
		clear  = "m=audio 40000 RTP/AVP 8"
		secure = "m=audio 40002 RTP/SAVP 8"
		feed   = "m=audio 40004 RTP/SAVPF 8"
		line   = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + key80
		bad    = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + key80 + " UNENCRYPTED_SRTP"
		dtls   = "m=audio 40006 UDP/TLS/RTP/SAVP 8"
	)
	for _, c := range []struct {
		name                    string
		lines                   []string
		off, optional, required string // index, profile and lines; or what the error says
	}{
		{"in the clear", []string{clear}, "0 RTP/AVP 0", "0 RTP/AVP 0", "RTP/SAVP with a=crypto is required"},
		{"opportunistic", []string{clear, line}, "0 RTP/AVP 0", "0 RTP/AVP 1", "0 RTP/AVP 1"},
		{"secure", []string{secure, line}, "RTP/AVP is required", "0 RTP/SAVP 1", "0 RTP/SAVP 1"},
		{"secure with feedback", []string{feed, line}, "RTP/AVP is required", "0 RTP/SAVPF 1", "0 RTP/SAVPF 1"},
		{"secure, then clear", []string{secure, line, clear}, "1 RTP/AVP 0", "0 RTP/SAVP 1", "0 RTP/SAVP 1"},
		{"clear, then secure", []string{clear, secure, line}, "0 RTP/AVP 0", "1 RTP/SAVP 1", "1 RTP/SAVP 1"},
		{"unusable keys beside clear", []string{secure, bad, clear}, "1 RTP/AVP 0", "1 RTP/AVP 0", "UNENCRYPTED_SRTP"},
		{"unusable keys", []string{secure, bad}, "RTP/AVP is required", "UNENCRYPTED_SRTP", "UNENCRYPTED_SRTP"},
		{"unusable keys that may be ignored", []string{clear, bad}, "0 RTP/AVP 0", "0 RTP/AVP 0", "UNENCRYPTED_SRTP"},
		{"no keys", []string{secure}, "RTP/AVP is required", "no a=crypto", "no a=crypto"},
		{"DTLS", []string{dtls}, "RTP/AVP is required", "RTP/AVP is required", "is required"},
		{"refused", []string{"m=audio 0 RTP/SAVP 8"}, "RTP/AVP is required", "0 RTP/SAVP 0", "0 RTP/SAVP 0"},
		{"the live one of two", []string{"m=audio 0 RTP/SAVP 8", line, clear}, "1 RTP/AVP 0", "1 RTP/AVP 0", "0 RTP/SAVP 1"},
	} {
		for policy, want := range map[SRTP]string{SRTPOff: c.off, SRTPOptional: c.optional, SRTPRequired: c.required} {
			o, err := ParseCoreSRTP(audio(c.lines...), policy)
			if err != nil {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s, %s: %v, want %s", c.name, policy, err, want)
				}
				continue
			}
			if got := fmt.Sprint(o.Audio, " ", o.Profile, " ", len(o.Crypto)); got != want {
				t.Errorf("%s, %s: %s, want %s", c.name, policy, got, want)
			}
		}
	}
}

func someCrypto(t *rapid.T, label string) Crypto {
	s := rapid.SampledFrom(suites).Draw(t, label)
	return Crypto{rapid.IntRange(1, maxTag).Draw(t, label+" tag"), s.name, rapid.SliceOfN(rapid.Byte(), s.master, s.master).Draw(t, label+" key")}
}

// What is written with keys can be read, whole, and the answer's key belongs to a
// line of the offer.
func TestSecuredOffersAndAnswers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyCoreEndpoint(t)
		e.RTCP = netip.AddrPort{}
		e.Codecs = []Codec{{8, "PCMA", 8000, 0, ""}}
		e.Secure = rapid.Bool().Draw(t, "secure")
		for i := range rapid.IntRange(1, 4).Draw(t, "lines") {
			c := someCrypto(t, fmt.Sprint("line ", i))
			c.Tag = i + 1
			e.Crypto = append(e.Crypto, c)
		}
		text, err := CoreOffer(e)
		if err != nil {
			t.Fatal(err)
		}
		o, err := ParseCoreSRTP(text, SRTPOptional)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "secured", o.Secured(), e.Secure)
		if len(o.Crypto) != len(e.Crypto) {
			t.Fatalf("%v of %v in\n%s", o.Crypto, e.Crypto, text)
		}
		for i, c := range e.Crypto {
			if o.Crypto[i].String() != c.String() || !bytes.Equal(o.Crypto[i].Master, c.Master) {
				t.Fatalf("line %d is not what was written", i)
			}
		}
		picked, ok := PickCrypto(o.Crypto, Suites())
		if !ok || picked.Tag != 1 {
			t.Fatalf("picked %v, %t", picked, ok)
		}
		mine := someCrypto(t, "own")
		mine.Tag, mine.Suite = picked.Tag, picked.Suite
		mine.Master = make([]byte, MasterLength(mine.Suite))
		back := e
		back.Crypto = []Crypto{mine}
		answer, err := o.Answer(back)
		if err != nil {
			t.Fatal(err)
		}
		a, err := ParseCoreSRTP(answer, SRTPRequired)
		if err != nil {
			t.Fatalf("%v in\n%s", err, answer)
		}
		equal(t, "profile", a.Profile, o.Profile)
		local, remote, err := AnsweredCrypto(e.Crypto, a.Crypto)
		if err != nil || !bytes.Equal(local.Master, e.Crypto[0].Master) || !bytes.Equal(remote.Master, mine.Master) {
			t.Fatalf("keys in force: %v %v %v", local, remote, err)
		}
		// A peer that ignores keys answers an offer in the clear in the clear.
		if !e.Secure {
			back.Crypto = nil
			if answer, err = o.Answer(back); err != nil {
				t.Fatal(err)
			}
			if a, err = ParseCoreSRTP(answer, SRTPOptional); err != nil || len(a.Crypto) != 0 {
				t.Fatalf("answer in the clear: %v %v", a, err)
			}
		}
	})
}

func TestAnswerWithoutKeysToSecuredOffer(t *testing.T) {
	o, err := ParseCoreSRTP(audio("m=audio 40002 RTP/SAVP 8", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"+key80), SRTPOptional)
	if err != nil {
		t.Fatal(err)
	}
	local := gatewayCore()
	local.Codecs = o.Codecs
	if text, err := o.Answer(local); err == nil {
		t.Errorf("written in the clear:\n%s", text)
	}
	wrong := []Crypto{{2, "AES_CM_128_HMAC_SHA1_80", nil}}
	if _, _, err := AnsweredCrypto(o.Crypto, wrong); err == nil {
		t.Error("a tag that was not offered is taken")
	}
	if _, _, err := AnsweredCrypto(o.Crypto, nil); err == nil {
		t.Error("no key is taken for one")
	}
}

func TestRedact(t *testing.T) {
	text := audio("m=audio 40002 RTP/SAVP 8", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"+key80+"|2^31", "a=crypto:2 X INLINE:"+key80+";inline:"+key128, "a=tail")
	got := Redact(text)
	if strings.Contains(got, key80) || strings.Contains(got, key128) {
		t.Errorf("keys in\n%s", got)
	}
	if want := "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:…|2^31\r\na=crypto:2 X INLINE:…;inline:…\r\na=tail\r\n"; !strings.HasSuffix(got, want) {
		t.Errorf("is\n%s", got)
	}
	if s := fmt.Sprintf("%v %+v %#v", Crypto{1, "S", []byte("secret")}, &Crypto{1, "S", []byte("secret")}, Crypto{1, "S", []byte("secret")}); strings.Contains(s, "115") || strings.Contains(s, "secret") {
		t.Errorf("a Crypto shows itself: %s", s)
	}
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.StringMatching(`[a-hj-z :\r\n|;=]*`).Draw(t, "text")
		if got := Redact(plain); got != plain {
			t.Fatalf("%q became %q", plain, got)
		}
	})
}
