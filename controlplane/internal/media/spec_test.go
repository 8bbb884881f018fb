package media

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

func TestASpecSaysWhatThePlanMeans(t *testing.T) {
	pcmu, event := sdp.Codec{PayloadType: 0, Encoding: "PCMU", ClockRate: 8000}, sdp.Codec{PayloadType: 126, Encoding: "telephone-event", ClockRate: 8000}
	answered, offered := event, event
	answered.PayloadType, offered.PayloadType = 101, 96
	p := gateway.MediaPlan{
		CallID: "c", Epoch: 7, Generation: 3, Talking: "b", SilenceLimit: time.Minute, OrphanAfter: 5 * time.Minute,
		Browsers: []gateway.BrowserLeg{{
			ID: "b", SessionID: "b", Ufrag: "uuuu", Password: "p", RemoteUfrag: "r", RemotePassword: "q", Active: true,
			RemoteFingerprints: []sdp.Fingerprint{{Algorithm: "sha-256", Value: []byte{1}}},
			SSRC:               11, Direction: sdp.RecvOnly, Codecs: []sdp.Codec{pcmu, event},
		}, {ID: "other", SessionID: "other", Ufrag: "oooo"}},
		Core: &gateway.CoreLeg{
			Local: netip.MustParseAddrPort("198.18.0.1:4000"), Remote: netip.MustParseAddrPort("198.18.0.2:5000"),
			SSRC: 22, Direction: sdp.SendOnly,
			Codecs: []sdp.Codec{pcmu, answered}, Receive: []sdp.Codec{pcmu, offered},
		},
	}
	got := specOf(p)
	want := &mediav1.SessionSpec{}
	err := prototext.Unmarshal([]byte(`
		id: "c" owner_epoch: 7 generation: 3
		orphan_after: {seconds: 300} media_timeout: {seconds: 60}
		legs: {id: "b" webrtc: {
			local_ice: {ufrag: "uuuu" password: "p"} remote_ice: {ufrag: "r" password: "q"} local_dtls: {}
			remote_fingerprints: {algorithm: "sha-256" value: "\001"} dtls_role: DTLS_ROLE_CLIENT
		}}
		legs: {id: "other" webrtc: {local_ice: {ufrag: "oooo"} local_dtls: {} dtls_role: DTLS_ROLE_SERVER}}
		legs: {id: "core" rtp: {local: {ip: "198.18.0.1" port: 4000} remote: {ip: "198.18.0.2" port: 5000}}}
		streams: {id: "b" leg: "b" direction: DIRECTION_RECVONLY ssrc: 11 cname: "c"
			formats: {payload_type: 0 encoding: "PCMU" clock_rate: 8000 channels: 1}
			formats: {payload_type: 126 encoding: "telephone-event" clock_rate: 8000 channels: 1}}
		streams: {id: "other" leg: "other" direction: DIRECTION_SENDRECV cname: "c"}
		streams: {id: "core" leg: "core" direction: DIRECTION_SENDONLY ssrc: 22 cname: "c"
			formats: {payload_type: 0 encoding: "PCMU" clock_rate: 8000 channels: 1}
			formats: {payload_type: 101 encoding: "telephone-event" clock_rate: 8000 channels: 1}
			formats: {payload_type: 96 encoding: "telephone-event" clock_rate: 8000 channels: 1}}
		rules: {input: "b" outputs: {stream: "core" payloads: {from: 0 to: 0} payloads: {from: 126 to: 101}}}
		rules: {input: "core" outputs: {stream: "b"
			payloads: {from: 0 to: 0} payloads: {from: 96 to: 126} payloads: {from: 101 to: 126}}}
	`), want)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Fatalf("got\n%s\nwant\n%s", prototext.Format(got), prototext.Format(want))
	}
}

func TestConfigNamesItsKeys(t *testing.T) {
	for key, change := range map[string]func(*Config){
		"shared_secret":     func(c *Config) { c.SharedSecret = "short" },
		"announce_interval": func(c *Config) { c.AnnounceInterval = 0 },
		"certificate":       func(c *Config) { c.Certificate = "x" },
	} {
		c := Default()
		c.SharedSecret = secret
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if err := Default().Validate(); err == nil {
		t.Error("neither secret nor certificate was taken")
	}
}
