package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/pion/srtp/v3"

	"github.com/isthmus-gateway/isthmus/loadtest/media"
)

// codec of every call: G.711 with 20 ms in a packet, 172 bytes of RTP.
var codec = media.Codec{Name: "pcmu", PayloadType: 0, Clock: 8000, Interval: 20 * time.Millisecond, Payload: 160}

// firstPort of the generator's endpoints.
const firstPort = 10000

// Suite is how one leg of each call is protected.
type Suite struct {
	// Name as in results: cm, gcm, gcm256 or plain.
	Name string
	// Title for people.
	Title   string
	Secure  bool
	Profile srtp.ProtectionProfile
}

// suites in the order of the report.
var suites = []Suite{
	{"cm", "AES_CM_128_HMAC_SHA1_80", true, srtp.ProtectionProfileAes128CmHmacSha1_80},
	{"gcm", "AEAD_AES_128_GCM", true, srtp.ProtectionProfileAeadAes128Gcm},
	{"gcm256", "AEAD_AES_256_GCM", true, srtp.ProtectionProfileAeadAes256Gcm},
	{"plain", "plain RTP relay", false, 0},
}

// SuiteNamed is one of cm, gcm, gcm256 and plain.
func SuiteNamed(name string) (Suite, error) {
	for _, s := range suites {
		if s.Name == name {
			return s, nil
		}
	}
	return Suite{}, fmt.Errorf("suite %q: must be cm, gcm, gcm256 or plain", name)
}

// system is what is measured.
type system interface {
	name() string
	// config that it runs with, for the report.
	config() string
	start(context.Context, *lab, *cable) error
	// call sets calls up and says what goes through them.
	call(ctx context.Context, calls int, s Suite) (*media.Load, error)
	hangUp(context.Context) error
	// pid of its process; 0 when the kernel does everything.
	pid() int
	stop()
}

// Names of systems, in the order of the report.
const (
	RTPEngine = "rtpengine"
	User      = "user"
	XDP       = "xdp"
	Floor     = "floor"
)

// Titles of systems for people.
var titles = map[string]string{
	RTPEngine: "rtpengine, user space", User: "Isthmus, engine user", XDP: "Isthmus, engine xdp", Floor: "XDP_TX of the unchanged packet",
}
