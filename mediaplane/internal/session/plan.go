package session

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/dtlssrtp"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/forward"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/icelite"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/srtp"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// Limits of a spec.
const (
	maxLegs    = 16
	maxStreams = 32
	maxLabels  = 32
)

// FieldError says which field of a spec cannot be, and why.
type FieldError struct {
	// Field is a path in the spec, legs[0].webrtc.local_ice.ufrag for instance.
	Field  string
	Reason string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

// Plan is a spec that was found sound, in the types of the packages below.
type Plan struct {
	ID                string
	Epoch, Generation uint64
	legs              []legPlan
	table             forward.Config
	orphanAfter       time.Duration
	labels            map[string]string
}

type legPlan struct {
	id     string
	field  string
	webrtc *webrtcPlan
	rtp    *rtpPlan
}

type webrtcPlan struct {
	ice          icelite.Credentials
	certificate  tls.Certificate
	fingerprints []dtlssrtp.Fingerprint
	client       bool
	profiles     []srtp.Profile
	remote       netip.AddrPort
	secure       *securePlan
}

type rtpPlan struct {
	local, remote, remoteRTCP netip.AddrPort
	mux, strict, noRTCP       bool
	secure                    *securePlan
}

// securePlan is an SRTP association whose keys the spec has.
type securePlan struct {
	keys    srtp.Keys
	sources []srtp.Source
}

// checker collects the first thing wrong with a spec.
type checker struct{ err *FieldError }

func (c *checker) fail(field, format string, args ...any) {
	if c.err == nil {
		c.err = &FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
	}
}

func (c *checker) text(field, value string, min, max int) {
	switch n := len(value); {
	case n < min || n > max:
		c.fail(field, "%d characters, must have %d to %d", n, min, max)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		c.fail(field, "has control characters")
	}
}

// Compile checks every field of a spec. Its errors are *FieldError.
func Compile(spec *mediav1.SessionSpec) (*Plan, error) {
	c := &checker{}
	if spec == nil {
		return nil, &FieldError{Field: "spec", Reason: "missing"}
	}
	c.text("id", spec.GetId(), 1, 128)
	p := &Plan{
		ID: spec.GetId(), Epoch: spec.GetOwnerEpoch(), Generation: spec.GetGeneration(),
		orphanAfter: c.duration("orphan_after", spec.GetOrphanAfter()), labels: spec.GetLabels(),
	}
	p.table.MediaTimeout = c.duration("media_timeout", spec.GetMediaTimeout())
	if len(spec.GetLabels()) > maxLabels {
		c.fail("labels", "%d labels, at most %d", len(spec.GetLabels()), maxLabels)
	}
	for k, v := range spec.GetLabels() {
		c.text("labels", k, 1, 64)
		c.text("labels["+k+"]", v, 0, 256)
	}

	legs := map[string]bool{}
	ufrags := map[string]bool{}
	if len(spec.GetLegs()) > maxLegs {
		c.fail("legs", "%d legs, at most %d", len(spec.GetLegs()), maxLegs)
	}
	for i, leg := range spec.GetLegs() {
		field := fmt.Sprintf("legs[%d]", i)
		c.text(field+".id", leg.GetId(), 1, 64)
		if legs[leg.GetId()] {
			c.fail(field+".id", "%q is used twice", leg.GetId())
		}
		legs[leg.GetId()] = true
		lp := legPlan{id: leg.GetId(), field: field}
		switch {
		case leg.GetWebrtc() != nil:
			lp.webrtc = c.webrtc(field+".webrtc", leg.GetWebrtc())
			if ufrags[lp.webrtc.ice.LocalUfrag] {
				c.fail(field+".webrtc.local_ice.ufrag", "is used by another leg of the session")
			}
			ufrags[lp.webrtc.ice.LocalUfrag] = true
		case leg.GetRtp() != nil:
			lp.rtp = c.rtp(field+".rtp", leg.GetRtp())
		default:
			c.fail(field+".transport", "missing: webrtc or rtp")
		}
		p.legs = append(p.legs, lp)
	}
	streams := c.streams(spec, legs, p)
	c.rules(spec, streams, p)
	if c.err == nil {
		c.restored(p)
	}
	if c.err != nil {
		return nil, c.err
	}
	return p, nil
}

func (c *checker) duration(field string, d *durationpb.Duration) time.Duration {
	if d == nil {
		return 0
	}
	if d.CheckValid() != nil || d.AsDuration() < 0 || d.AsDuration() > 24*time.Hour {
		c.fail(field, "%s, must be 0 to 24h", d.AsDuration())
	}
	return d.AsDuration()
}

func (c *checker) webrtc(field string, t *mediav1.WebRTCTransport) *webrtcPlan {
	p := &webrtcPlan{client: t.GetDtlsRole() == mediav1.DTLSRole_DTLS_ROLE_CLIENT}
	c.credentials(field+".local_ice", t.GetLocalIce())
	p.ice.LocalUfrag, p.ice.LocalPassword = t.GetLocalIce().GetUfrag(), t.GetLocalIce().GetPassword()
	if t.GetRemoteIce() != nil {
		c.credentials(field+".remote_ice", t.GetRemoteIce())
		p.ice.RemoteUfrag = t.GetRemoteIce().GetUfrag()
	}
	switch t.GetDtlsRole() {
	case mediav1.DTLSRole_DTLS_ROLE_CLIENT, mediav1.DTLSRole_DTLS_ROLE_SERVER:
	default:
		c.fail(field+".dtls_role", "must be CLIENT or SERVER")
	}
	p.certificate = c.identity(field+".local_dtls", t.GetLocalDtls())
	if len(t.GetRemoteFingerprints()) > 16 {
		c.fail(field+".remote_fingerprints", "%d, at most 16", len(t.GetRemoteFingerprints()))
	}
	for i, f := range t.GetRemoteFingerprints() {
		at := fmt.Sprintf("%s.remote_fingerprints[%d]", field, i)
		hash, ok := dtlssrtp.Hash(f.GetAlgorithm())
		if !ok {
			c.fail(at+".algorithm", "%q is not a hash function that can be checked (sha-1, sha-224, sha-256, sha-384, sha-512)", f.GetAlgorithm())
			continue
		}
		if len(f.GetValue()) != hash.Size() {
			c.fail(at+".value", "%d bytes, %s has %d", len(f.GetValue()), f.GetAlgorithm(), hash.Size())
		}
		p.fingerprints = append(p.fingerprints, dtlssrtp.Fingerprint{Algorithm: strings.ToLower(f.GetAlgorithm()), Value: f.GetValue()})
	}
	for i, profile := range t.GetSrtpProfiles() {
		known := profileFrom(profile)
		if !slices.Contains(dtlssrtp.Profiles(), known) || slices.Contains(p.profiles, known) {
			c.fail(fmt.Sprintf("%s.srtp_profiles[%d]", field, i), "unknown or repeated profile %d", profile)
		}
		p.profiles = append(p.profiles, known)
	}
	if len(p.profiles) == 0 {
		p.profiles = dtlssrtp.Profiles()
	}
	if t.GetRemote() != nil {
		p.remote = c.address(field+".remote", t.GetRemote(), false)
	}
	if s := t.GetSrtp(); s != nil {
		p.secure = c.keys(field+".srtp", s)
		if t.GetRemote() == nil {
			c.fail(field+".remote", "missing: keys without the address that the browser selected cannot be used")
		}
	}
	return p
}

func (c *checker) keys(field string, s *mediav1.SRTPState) *securePlan {
	p := &securePlan{keys: srtp.Keys{Profile: profileFrom(s.GetProfile()), Local: s.GetLocalMaster(), Remote: s.GetRemoteMaster()}}
	if err := p.keys.Validate(); err != nil {
		c.fail(field, "%v", err)
	}
	if bytes.Equal(p.keys.Local, p.keys.Remote) {
		// Two streams under one key would be enciphered alike (RFC 4568 6.1).
		c.fail(field+".remote_master", "is the same as local_master")
	}
	if len(s.GetSources()) > 1024 {
		c.fail(field+".sources", "%d, at most 1024", len(s.GetSources()))
	}
	for i, src := range s.GetSources() {
		at := fmt.Sprintf("%s.sources[%d]", field, i)
		if src.GetLastSequence() > 0xffff {
			c.fail(at+".last_sequence", "%d, at most 65535", src.GetLastSequence())
		}
		if src.GetRtcpIndex() >= 1<<31 {
			c.fail(at+".rtcp_index", "%d, at most 2^31-1", src.GetRtcpIndex())
		}
		p.sources = append(p.sources, srtp.Source{
			SSRC: src.GetSsrc(), Outgoing: src.GetOutgoing(), RTCPIndex: src.GetRtcpIndex(),
			Index: uint64(src.GetRolloverCounter())<<16 | uint64(src.GetLastSequence()),
		})
	}
	return p
}

// iceChars are those of ice-ufrag and ice-pwd (RFC 8839 section 5.4).
func iceChars(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '+' || r == '/')
	})
}

func (c *checker) credentials(field string, ice *mediav1.ICECredentials) {
	if ice == nil {
		c.fail(field, "missing")
		return
	}
	c.text(field+".ufrag", ice.GetUfrag(), 4, 256)
	c.text(field+".password", ice.GetPassword(), 22, 256)
	if !iceChars(ice.GetUfrag()) {
		c.fail(field+".ufrag", "has characters other than letters, digits, + and /")
	}
	if !iceChars(ice.GetPassword()) {
		c.fail(field+".password", "has characters other than letters, digits, + and /")
	}
}

func (c *checker) identity(field string, id *mediav1.DTLSIdentity) tls.Certificate {
	if id == nil {
		c.fail(field, "missing")
		return tls.Certificate{}
	}
	leaf, err := x509.ParseCertificate(id.GetCertificate())
	if err != nil {
		c.fail(field+".certificate", "no X.509 certificate in DER: %v", err)
		return tls.Certificate{}
	}
	key, err := x509.ParsePKCS8PrivateKey(id.GetPrivateKey())
	if err != nil {
		c.fail(field+".private_key", "no PKCS #8 key in DER: %v", err)
		return tls.Certificate{}
	}
	var matches bool
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		matches = k.PublicKey.Equal(leaf.PublicKey)
	case *rsa.PrivateKey:
		matches = k.PublicKey.Equal(leaf.PublicKey)
	default:
		c.fail(field+".private_key", "must be an ECDSA or RSA key, is %T", key)
		return tls.Certificate{}
	}
	if !matches {
		c.fail(field+".private_key", "does not belong to the certificate")
	}
	return tls.Certificate{Certificate: [][]byte{id.GetCertificate()}, PrivateKey: key, Leaf: leaf}
}

func (c *checker) rtp(field string, t *mediav1.RTPTransport) *rtpPlan {
	p := &rtpPlan{mux: t.GetRtcpMux(), strict: t.GetStrictSource(), noRTCP: t.GetNoRtcp()}
	if l := t.GetLocal(); l != nil {
		if p.local = c.address(field+".local", l, true); p.local.Addr().IsUnspecified() && p.local.Port() != 0 {
			c.fail(field+".local.port", "must be 0 with %s, which only asks for an address family", p.local.Addr())
		}
	}
	p.remote = c.far(field+".remote", t.GetRemote())
	p.remoteRTCP = c.far(field+".remote_rtcp", t.GetRemoteRtcp())
	if s := t.GetSrtp(); s != nil {
		p.secure = c.keys(field+".srtp", s)
	}
	return p
}

// far is the address of a far end. The unspecified one, with which old
// implementations ask for hold (RFC 3264 section 8.4), is nowhere to send to.
func (c *checker) far(field string, a *mediav1.SocketAddress) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	if ip, err := netip.ParseAddr(a.GetIp()); err == nil && ip.IsUnspecified() {
		return netip.AddrPort{}
	}
	return c.address(field, a, false)
}

// address reads an address; a local one may leave the port, and with the
// unspecified address all but the family, to the node.
func (c *checker) address(field string, a *mediav1.SocketAddress, local bool) netip.AddrPort {
	ip, err := netip.ParseAddr(a.GetIp())
	switch {
	case err != nil || ip.Zone() != "":
		c.fail(field+".ip", "%q is no IP address without zone", a.GetIp())
	case ip.IsUnspecified() && !local || ip.IsMulticast():
		c.fail(field+".ip", "%s is no address to send to; leave the field out while it is unknown", ip)
	case a.GetPort() > 0xffff:
		c.fail(field+".port", "%d, at most 65535", a.GetPort())
	case a.GetPort() == 0 && !local:
		c.fail(field+".port", "0; leave the field out while it is unknown")
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(a.GetPort()))
}

func profileFrom(p mediav1.SRTPProfile) srtp.Profile {
	switch p {
	case mediav1.SRTPProfile_SRTP_PROFILE_AES128_CM_HMAC_SHA1_80:
		return srtp.AES128CMSHA1
	case mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_128_GCM:
		return srtp.AES128GCM
	case mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_256_GCM:
		return srtp.AES256GCM
	case mediav1.SRTPProfile_SRTP_PROFILE_AES128_CM_HMAC_SHA1_32:
		return srtp.AES128CMSHA1Tag32
	}
	return 0
}

func profileTo(p srtp.Profile) mediav1.SRTPProfile {
	switch p {
	case srtp.AES128CMSHA1:
		return mediav1.SRTPProfile_SRTP_PROFILE_AES128_CM_HMAC_SHA1_80
	case srtp.AES128GCM:
		return mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_128_GCM
	case srtp.AES256GCM:
		return mediav1.SRTPProfile_SRTP_PROFILE_AEAD_AES_256_GCM
	case srtp.AES128CMSHA1Tag32:
		return mediav1.SRTPProfile_SRTP_PROFILE_AES128_CM_HMAC_SHA1_32
	}
	return mediav1.SRTPProfile_SRTP_PROFILE_UNSPECIFIED
}
