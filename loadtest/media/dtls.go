package media

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	_ "crypto/sha512" // fingerprints

	"github.com/pion/dtls/v3"
	"github.com/pion/srtp/v3"
)

// DTLS keys an endpoint by a handshake (RFC 5764).
type DTLS struct {
	// Client sends the ClientHello (a=setup:active).
	Client bool
	// Certificate that is shown.
	Certificate tls.Certificate
	// Algorithm and Peer are the fingerprint that the target's certificate must
	// have (RFC 8122); an empty Peer takes any.
	Algorithm string
	Peer      []byte
	// Profile that is offered.
	Profile srtp.ProtectionProfile
}

// NewDTLS makes a handshake with a certificate of its own.
func NewDTLS(client bool, algorithm string, peer []byte, profile srtp.ProtectionProfile) (*DTLS, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "WebRTC"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &DTLS{
		Client: client, Algorithm: algorithm, Peer: peer, Profile: profile,
		Certificate: tls.Certificate{Certificate: [][]byte{certificate}, PrivateKey: key},
	}, nil
}

// Fingerprint of the own certificate, SHA-256.
func (d *DTLS) Fingerprint() []byte {
	sum := sha256.Sum256(d.Certificate.Certificate[0])
	return sum[:]
}

// hashes of fingerprints by name (RFC 8122 section 5).
var hashes = map[string]crypto.Hash{
	"sha-256": crypto.SHA256, "sha-384": crypto.SHA384, "sha-512": crypto.SHA512,
}

func (d *DTLS) verify(raw [][]byte, _ [][]*x509.Certificate) error {
	if len(d.Peer) == 0 {
		return nil
	}
	hash, ok := hashes[strings.ToLower(d.Algorithm)]
	if !ok {
		return fmt.Errorf("fingerprint algorithm %q: must be sha-256, sha-384 or sha-512", d.Algorithm)
	}
	if len(raw) == 0 {
		return errors.New("the target shows no certificate")
	}
	sum := hash.New()
	sum.Write(raw[0])
	if subtle.ConstantTimeCompare(sum.Sum(nil), d.Peer) != 1 {
		return errors.New("the target's certificate does not have the fingerprint given")
	}
	return nil
}

// shake runs the handshake on a socket and answers the keys. Nothing else reads
// the socket meanwhile.
func (d *DTLS) shake(ctx context.Context, conn *net.UDPConn, remote netip.AddrPort) (*Keys, error) {
	filter := &dtlsOnly{conn: conn, remote: remote}
	offer := dtls.SRTPProtectionProfile(d.Profile)
	var association *dtls.Conn
	var err error
	// The fingerprint is the trust anchor (RFC 5763 section 5).
	if d.Client {
		association, err = dtls.ClientWithOptions(filter, net.UDPAddrFromAddrPort(remote),
			dtls.WithCertificates(d.Certificate), dtls.WithSRTPProtectionProfiles(offer),
			dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
			dtls.WithInsecureSkipVerify(true), dtls.WithVerifyPeerCertificate(d.verify))
	} else {
		association, err = dtls.ServerWithOptions(filter, net.UDPAddrFromAddrPort(remote),
			dtls.WithCertificates(d.Certificate), dtls.WithSRTPProtectionProfiles(offer),
			dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
			dtls.WithClientAuth(dtls.RequireAnyClientCert), dtls.WithVerifyPeerCertificate(d.verify))
	}
	if err != nil {
		return nil, fmt.Errorf("prepare the DTLS handshake: %w", err)
	}
	defer func() {
		// The peer need not know: media goes on.
		filter.closed.Store(true)
		_ = conn.SetReadDeadline(time.Now())
		_ = association.Close()
		_ = conn.SetReadDeadline(time.Time{})
	}()
	if err := association.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("DTLS handshake with %s: %w", remote, err)
	}
	chosen, ok := association.SelectedSRTPProtectionProfile()
	if !ok {
		return nil, fmt.Errorf("DTLS handshake with %s: no SRTP protection profile agreed", remote)
	}
	state, ok := association.ConnectionState()
	if !ok {
		return nil, fmt.Errorf("DTLS handshake with %s: no connection state", remote)
	}
	c := srtp.Config{Profile: srtp.ProtectionProfile(chosen)}
	if err := c.ExtractSessionKeysFromDTLS(&state, d.Client); err != nil {
		return nil, fmt.Errorf("SRTP keys of the DTLS handshake with %s: %w", remote, err)
	}
	k := c.Keys
	return &Keys{
		Profile: c.Profile,
		Send:    append(append([]byte(nil), k.LocalMasterKey...), k.LocalMasterSalt...),
		Receive: append(append([]byte(nil), k.RemoteMasterKey...), k.RemoteMasterSalt...),
	}, nil
}

// dtlsOnly is a socket as pion/dtls sees it: what is not DTLS is passed over
// (RFC 7983 section 7).
type dtlsOnly struct {
	conn   *net.UDPConn
	remote netip.AddrPort
	closed atomic.Bool
}

func (c *dtlsOnly) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		if c.closed.Load() {
			return 0, nil, net.ErrClosed
		}
		n, from, err := c.conn.ReadFromUDPAddrPort(b)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && c.closed.Load():
			return 0, nil, net.ErrClosed
		case err != nil:
			return 0, nil, err
		case n > 0 && b[0] >= 20 && b[0] <= 63:
			return n, net.UDPAddrFromAddrPort(from), nil
		}
	}
}

func (c *dtlsOnly) WriteTo(b []byte, _ net.Addr) (int, error) {
	if c.closed.Load() {
		return len(b), nil
	}
	return c.conn.WriteToUDPAddrPort(b, c.remote)
}

func (c *dtlsOnly) Close() error                       { return nil }
func (c *dtlsOnly) LocalAddr() net.Addr                { return c.conn.LocalAddr() }
func (c *dtlsOnly) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *dtlsOnly) SetWriteDeadline(_ time.Time) error { return nil }
func (c *dtlsOnly) SetReadDeadline(t time.Time) error {
	if c.closed.Load() {
		return nil
	}
	return c.conn.SetReadDeadline(t)
}
