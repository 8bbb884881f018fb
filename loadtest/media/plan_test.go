package media

import (
	"strings"
	"testing"
	"time"
)

const key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" // 30 bytes

const plan = `
codec: opus
payload: 100
interval: 10ms
endpoints:
  - name: caller
    local: 192.0.2.10:4000
    remote: 192.0.2.20:30000
    count: 3
    step: 4
    srtp: {profile: AES_CM_128_HMAC_SHA1_80, send: ` + key + `, receive: inline:` + key + `}
  - {name: callee, local: "[2001:db8::1]:5000", remote: "[2001:db8::2]:6000", count: 3}
streams:
  - {from: caller, to: callee, ssrc: 100}
  - {from: callee, to: caller}
  - {from: callee}
`

func TestPlan(t *testing.T) {
	load, err := ParsePlan([]byte(plan))
	if err != nil {
		t.Fatal(err)
	}
	if c := load.Codec; c.PayloadType != 111 || c.Clock != 48000 || c.Payload != 100 || c.Interval != 10*time.Millisecond {
		t.Errorf("codec %+v", c)
	}
	if len(load.Endpoints) != 6 || len(load.Streams) != 9 {
		t.Fatalf("%d endpoints, %d streams", len(load.Endpoints), len(load.Streams))
	}
	e := load.Endpoints[2]
	if e.Name != "caller-2" || e.Local.String() != "192.0.2.10:4008" || e.Remote.String() != "192.0.2.20:30008" || len(e.Keys.Receive) != 30 {
		t.Errorf("endpoint %+v", e)
	}
	if s := load.Streams[2]; s.From != 2 || s.To != 5 || s.SSRC != 102 || s.Name != "caller→callee 2" {
		t.Errorf("stream %+v", s)
	}
	if s := load.Streams[8]; s.From != 5 || s.To != -1 {
		t.Errorf("stream %+v", s)
	}
	if again, err := ParsePlan([]byte(`{"endpoints": [{"name": "a", "local": "192.0.2.1:1", "remote": "192.0.2.2:2"}], "streams": [{"from": "a", "to": "a"}]}`)); err != nil || again.Codec.Name != "pcmu" {
		t.Errorf("JSON: %v", err)
	}
}

func TestPlanErrorsNameTheKey(t *testing.T) {
	for want, change := range map[string][2]string{
		"cdec":                {"codec:", "cdec:"},
		"codec \"g729\"":      {"codec: opus", "codec: g729"},
		"payload of 5":        {"payload: 100", "payload: 5"},
		"packet time 10h":     {"10ms", "10h"},
		"local: \"here\"":     {"192.0.2.10:4000", "here"},
		"beyond 65535":        {"192.0.2.20:30000", "192.0.2.20:65535"},
		"srtp.profile":        {"AES_CM_128_HMAC_SHA1_80", "NULL"},
		"srtp.receive":        {"inline:" + key, "inline:AAAA"},
		"srtp.send":           {"send: " + key, "send: '*'"},
		"one family":          {"\"[2001:db8::2]:6000\"", "192.0.2.3:6000"},
		"no endpoint":         {"{from: caller, to: callee, ssrc: 100}", "{from: nobody}"},
		"callee 2":            {"6000\", count: 3", "6000\", count: 2"},
		"both arrive":         {"{from: callee}", "{from: callee, to: caller, ssrc: 9}"},
		"same SSRC":           {"{from: callee}", "{from: callee, ssrc: 2097152}"},
		"count 99999":         {"count: 3\n", "count: 99999\n"},
		"local: 0.0.0.0:4000": {"192.0.2.10:4000", "0.0.0.0:4000"},
		"step 5000":           {"step: 4", "step: 5000"},
		"dtls.role":           {"step: 4", "dtls: {role: none, profile: AEAD_AES_128_GCM}"},
		"dtls.fingerprint":    {"step: 4", "dtls: {fingerprint: sha-1 AB, profile: AEAD_AES_128_GCM}"},
		"only one of them":    {"step: 4", "dtls: {profile: AEAD_AES_128_GCM}"},
		"ice:":                {"step: 4", "ice: {local_ufrag: a}"},
	} {
		text := strings.Replace(plan, change[0], change[1], 1)
		if text == plan {
			t.Fatalf("%s changes nothing", want)
		}
		if _, err := ParsePlan([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}
