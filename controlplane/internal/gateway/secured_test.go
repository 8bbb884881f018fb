package gateway

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// securedFarEnd answers an offer with SRTP, with a key that is all b.
func securedFarEnd(t *testing.T, offer string, b byte) string {
	t.Helper()
	remote, err := sdp.ParseCoreSRTP(offer, sdp.SRTPRequired)
	if err != nil {
		t.Fatalf("%v\n%s", err, offer)
	}
	e := farEnd(sdp.SendRecv, sdp.AnswerFor(remote.Codecs, []sdp.Codec{pcmu, digits8}))
	picked := remote.Crypto[len(remote.Crypto)-1] // the last: any may be taken
	e.Crypto = []sdp.Crypto{{Tag: picked.Tag, Suite: picked.Suite, Master: bytes.Repeat([]byte{b}, sdp.MasterLength(picked.Suite))}}
	text, err := remote.Answer(e)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func securedOffer(t *testing.T, secure bool, suite string, b byte) string {
	t.Helper()
	e := farEnd(sdp.SendRecv, []sdp.Codec{pcmu, digits8})
	e.Secure = secure
	e.Crypto = []sdp.Crypto{{Tag: 7, Suite: suite, Master: bytes.Repeat([]byte{b}, sdp.MasterLength(suite))}}
	text, err := sdp.CoreOffer(e)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (w *world) core(callID string) *CoreLeg {
	w.t.Helper()
	p, ok := w.media.plan(callID)
	if !ok {
		w.t.Fatal("the call has no media")
	}
	return p.Core
}

func TestSecuredOutgoing(t *testing.T) {
	for _, policy := range []sdp.SRTP{sdp.SRTPOptional, sdp.SRTPRequired} {
		play(t, nil, func(w *world) {
			w.net.media = MediaPolicy{SRTP: policy}
			w.net.reoffer = func(_ context.Context, offer string) (string, error) { return securedFarEnd(t, offer, 1), nil }
			d := w.device(aliceNumber, "phone")
			m := d.calls()
			offer := w.offered(m.CallID)
			if got := strings.Contains(offer, "RTP/SAVP "); got != (policy == sdp.SRTPRequired) {
				t.Errorf("%s offers\n%s", policy, offer)
			}
			if n := strings.Count(offer, "a=crypto:"); n != len(sdp.Suites()) {
				t.Errorf("%d suites are offered", n)
			}
			w.answer(m.CallID, securedFarEnd(t, offer, 1))
			d.hears("Connected+answer")
			core := w.core(m.CallID)
			if !core.Secured() || core.LocalKey.Suite != "AES_CM_128_HMAC_SHA1_32" || core.RemoteKey.Master[0] != 1 {
				t.Fatalf("keys in force: %v %v", core.LocalKey, core.RemoteKey)
			}
			local := core.LocalKey.Master
			if strings.Contains(d.get(m.ID).Answer, "crypto") {
				t.Error("the browser is told keys")
			}

			// Hold offers the same key again.
			d.mustPut(m.ID, StatusRequest{Status: call.Hold})
			if held := w.offered(m.CallID); strings.Count(held, "a=crypto:") != 1 || !strings.Contains(offer, line(held, "a=crypto:")) {
				t.Errorf("hold changes the key:\n%s", held)
			}
			d.mustPut(m.ID, StatusRequest{Status: call.Resume})

			// The far end changes its key, then its suite.
			again := func(suite string, b byte) *CoreLeg {
				t.Helper()
				answer, err := w.g.Offered(t.Context(), m.CallID, securedOffer(t, policy == sdp.SRTPRequired, suite, b))
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(answer, "a=crypto:7 "+suite) {
					t.Errorf("the answer is\n%s", answer)
				}
				return w.core(m.CallID)
			}
			if core = again("AES_CM_128_HMAC_SHA1_32", 2); core.RemoteKey.Master[0] != 2 || !bytes.Equal(core.LocalKey.Master, local) {
				t.Errorf("a new key of the far end: %v, own key kept %t", core.RemoteKey, bytes.Equal(core.LocalKey.Master, local))
			}
			if core = again("AEAD_AES_128_GCM", 3); core.RemoteKey.Master[0] != 3 || len(core.LocalKey.Master) != 28 {
				t.Errorf("a new suite: %v %v", core.LocalKey, core.RemoteKey)
			}

			// One that can not be done is refused, and the session stays.
			if _, err := w.g.Offered(t.Context(), m.CallID, strings.Replace(securedOffer(t, true, "AEAD_AES_128_GCM", 4), "a=crypto:7 AEAD_AES_128_GCM", "a=crypto:7 F8_128_HMAC_SHA1_80", 1)); err == nil {
				t.Error("a re-INVITE without a usable key was answered")
			}
			if core = w.core(m.CallID); core.RemoteKey.Master[0] != 3 {
				t.Errorf("after a refusal the key is %v", core.RemoteKey)
			}
			w.over(m.CallID, Ending{Kind: EndedBye})
		})
	}
}

func line(text, prefix string) string {
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, prefix) {
			return l
		}
	}
	return ""
}

func TestAnswersInTheClear(t *testing.T) {
	play(t, nil, func(w *world) {
		w.net.media = MediaPolicy{SRTP: sdp.SRTPOptional}
		d := w.device(aliceNumber, "phone")
		m := d.calls()
		w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv))
		d.hears("Connected+answer")
		if core := w.core(m.CallID); core.Secured() {
			t.Errorf("keys in force: %v", core.LocalKey)
		}
		// What is in the clear stays so in later offers.
		d.mustPut(m.ID, StatusRequest{Status: call.Hold})
		if held := w.offered(m.CallID); strings.Contains(held, "crypto") {
			t.Errorf("hold offers\n%s", held)
		}
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
	play(t, nil, func(w *world) {
		w.net.media = MediaPolicy{SRTP: sdp.SRTPRequired}
		d := w.device(aliceNumber, "phone")
		m := d.calls()
		clear := strings.Replace(coreOffer(sdp.SendRecv, pcmu), "RTP/SAVP", "RTP/AVP", 1)
		w.answer(m.CallID, clear)
		w.settle(m.CallID)
		d.hears("Failed")
	})
}

func TestSecuredIncoming(t *testing.T) {
	for _, c := range []struct {
		policy  sdp.SRTP
		secure  bool
		suite   string
		allowed []string
		want    string // the suite in force, "clear", or "refused"
	}{
		{sdp.SRTPRequired, true, "AEAD_AES_256_GCM", nil, "AEAD_AES_256_GCM"},
		{sdp.SRTPOptional, true, "AES_CM_128_HMAC_SHA1_80", nil, "AES_CM_128_HMAC_SHA1_80"},
		{sdp.SRTPOptional, false, "AES_CM_128_HMAC_SHA1_80", nil, "AES_CM_128_HMAC_SHA1_80"},
		{sdp.SRTPOff, false, "AES_CM_128_HMAC_SHA1_80", nil, "clear"},
		{sdp.SRTPOff, true, "AES_CM_128_HMAC_SHA1_80", nil, "refused"},
		{sdp.SRTPOptional, false, "AES_CM_128_HMAC_SHA1_32", []string{"AEAD_AES_128_GCM"}, "clear"},
		{sdp.SRTPOptional, true, "AES_CM_128_HMAC_SHA1_32", []string{"AEAD_AES_128_GCM"}, "refused"},
		{sdp.SRTPRequired, false, "AES_CM_128_HMAC_SHA1_32", []string{"AEAD_AES_128_GCM"}, "refused"},
	} {
		play(t, nil, func(w *world) {
			w.net.media = MediaPolicy{SRTP: c.policy, Suites: c.allowed}
			d := w.device(aliceNumber, "phone")
			callID := w.rings(securedOffer(t, c.secure, c.suite, 5))
			if c.want == "refused" {
				w.settle(callID)
				d.hears()
				return
			}
			m := d.invited()
			d.picksUp(m)
			d.hears("Connected")
			core := w.core(callID)
			switch {
			case c.want == "clear":
				if core.Secured() || strings.Contains(w.offered(callID), "crypto") {
					t.Errorf("%+v: keys in force", c)
				}
			case core.LocalKey.Suite != c.want || core.RemoteKey.Master[0] != 5 || !strings.Contains(w.offered(callID), "a=crypto:7 "+c.want):
				t.Errorf("%+v: %v %v answered\n%s", c, core.LocalKey, core.RemoteKey, w.offered(callID))
			}
			w.over(callID, Ending{Kind: EndedBye})
		})
	}
}
