package dtlssrtp

import (
	"context"
	"crypto"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	_ "crypto/sha1" // fingerprints (RFC 8122 section 5)
	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
	pionsrtp "github.com/pion/srtp/v3"
	"github.com/pion/transport/v4/packetio"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/srtp"
)

// Fingerprint of a certificate (RFC 8122).
type Fingerprint struct {
	// Algorithm is the hash name as in SDP, lower case.
	Algorithm string
	Value     []byte
}

// Hash finds the hash function of an SDP fingerprint. MD2 and MD5 must not be
// used (RFC 8122 section 5).
func Hash(name string) (crypto.Hash, bool) {
	switch strings.ToLower(name) {
	case "sha-1":
		return crypto.SHA1, true
	case "sha-224":
		return crypto.SHA224, true
	case "sha-256":
		return crypto.SHA256, true
	case "sha-384":
		return crypto.SHA384, true
	case "sha-512":
		return crypto.SHA512, true
	}
	return 0, false
}

// ErrFingerprint says that the certificate shown is not the one in the session
// description.
var ErrFingerprint = errors.New("the certificate of the browser does not match any fingerprint of its session description")

// Config of one handshake.
type Config struct {
	// Client: the node sends the ClientHello (a=setup:active).
	Client       bool
	Certificate  tls.Certificate
	Fingerprints []Fingerprint
	// Profiles in order of preference.
	Profiles []srtp.Profile
	// Timeout ends a handshake that does not get on.
	Timeout time.Duration
}

// Handshake is one DTLS association from its start until its keys are in use.
type Handshake struct {
	conn  *packetConn
	dtls  *dtls.Conn
	abort context.CancelFunc
	ended chan struct{}
}

// Start begins a handshake. send writes one datagram to the browser; done is
// called once, from the handshake's goroutine, unless Close came first.
func Start(cfg Config, send func([]byte) error, done func(srtp.Keys, error)) (*Handshake, error) {
	conn := newPacketConn(send)
	profiles := make([]dtls.SRTPProtectionProfile, len(cfg.Profiles))
	for i, p := range cfg.Profiles {
		profiles[i] = useSRTP(p)
	}
	verify := func(raw [][]byte, _ [][]*x509.Certificate) error { return checkFingerprint(raw, cfg.Fingerprints) }

	var association *dtls.Conn
	var err error
	if cfg.Client {
		association, err = dtls.ClientWithOptions(conn, conn.RemoteAddr(),
			dtls.WithCertificates(cfg.Certificate),
			dtls.WithSRTPProtectionProfiles(profiles...),
			dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
			dtls.WithInsecureSkipVerify(true), // the fingerprint is the trust anchor (RFC 5763 section 5)
			dtls.WithVerifyPeerCertificate(verify),
			dtls.WithLoggerFactory(silent{}),
		)
	} else {
		association, err = dtls.ServerWithOptions(conn, conn.RemoteAddr(),
			dtls.WithCertificates(cfg.Certificate),
			dtls.WithSRTPProtectionProfiles(profiles...),
			dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
			dtls.WithClientAuth(dtls.RequireAnyClientCert),
			// ICE has shown that the address can be reached: no cookie round trip.
			dtls.WithInsecureSkipVerifyHello(true),
			dtls.WithVerifyPeerCertificate(verify),
			dtls.WithLoggerFactory(silent{}),
		)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("prepare DTLS handshake: %w", err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), cfg.Timeout)
	h := &Handshake{conn: conn, dtls: association, abort: cancel, ended: make(chan struct{})}
	go func() {
		defer close(h.ended)
		defer cancel()
		keys, err := h.run(ctx, cfg.Client)
		if err != nil {
			h.silence()
			if ctx.Err() == context.Canceled {
				return // closed
			}
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				err = fmt.Errorf("DTLS handshake not finished within %s", cfg.Timeout)
			}
		}
		done(keys, err)
	}()
	return h, nil
}

func (h *Handshake) run(ctx context.Context, client bool) (srtp.Keys, error) {
	if err := h.dtls.HandshakeContext(ctx); err != nil {
		return srtp.Keys{}, fmt.Errorf("DTLS handshake: %w", err)
	}
	chosen, ok := h.dtls.SelectedSRTPProtectionProfile()
	if !ok {
		return srtp.Keys{}, errors.New("DTLS handshake: no SRTP protection profile agreed (use_srtp missing)")
	}
	profile, ok := profileOf(chosen)
	if !ok {
		return srtp.Keys{}, fmt.Errorf("DTLS handshake: unexpected SRTP protection profile %d", chosen)
	}
	state, ok := h.dtls.ConnectionState()
	if !ok {
		return srtp.Keys{}, errors.New("DTLS handshake: no connection state")
	}
	config := pionsrtp.Config{Profile: pionsrtp.ProtectionProfile(chosen)}
	if err := config.ExtractSessionKeysFromDTLS(&state, client); err != nil {
		return srtp.Keys{}, fmt.Errorf("extract SRTP keys from DTLS: %w", err)
	}
	return srtp.Keys{
		Profile: profile,
		Local:   append(append([]byte(nil), config.Keys.LocalMasterKey...), config.Keys.LocalMasterSalt...),
		Remote:  append(append([]byte(nil), config.Keys.RemoteMasterKey...), config.Keys.RemoteMasterSalt...),
	}, nil
}

// Push hands in a datagram that came from the browser.
func (h *Handshake) Push(b []byte) { h.conn.push(b) }

// Close drops the association without telling the peer. It does not wait, and a
// handshake that is under way does not call done any more unless it is doing so.
func (h *Handshake) Close() {
	h.abort()
	h.silence()
}

// Wait returns when the handshake has ended and done has returned.
func (h *Handshake) Wait() { <-h.ended }

func (h *Handshake) silence() {
	h.conn.mute()
	_ = h.dtls.Close()
	_ = h.conn.Close()
}

func checkFingerprint(raw [][]byte, want []Fingerprint) error {
	if len(raw) == 0 {
		return errors.New("no certificate shown")
	}
	for _, f := range want {
		hash, ok := Hash(f.Algorithm)
		if !ok {
			continue
		}
		sum := hash.New()
		sum.Write(raw[0])
		if subtle.ConstantTimeCompare(sum.Sum(nil), f.Value) == 1 {
			return nil
		}
	}
	return ErrFingerprint
}

// packetConn is the net.PacketConn that pion/dtls reads from: a queue that the
// shared socket's read loop fills.
type packetConn struct {
	queue *packetio.Buffer
	mu    sync.Mutex
	send  func([]byte) error
}

func newPacketConn(send func([]byte) error) *packetConn {
	c := &packetConn{queue: packetio.NewBuffer(), send: send}
	c.queue.SetLimitCount(64)
	return c
}

func (c *packetConn) push(b []byte) {
	// A full queue drops, as a network does; DTLS sends again.
	_, _ = c.queue.Write(b)
}

func (c *packetConn) mute() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send = nil
}

func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.queue.Read(b)
	return n, c.RemoteAddr(), err
}

func (c *packetConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	c.mu.Lock()
	send := c.send
	c.mu.Unlock()
	if send != nil {
		// A lost datagram is sent again by DTLS, an error is a loss.
		_ = send(b)
	}
	return len(b), nil
}

func (c *packetConn) Close() error                       { return c.queue.Close() }
func (c *packetConn) LocalAddr() net.Addr                { return &net.UDPAddr{} }
func (c *packetConn) RemoteAddr() net.Addr               { return &net.UDPAddr{} }
func (c *packetConn) SetDeadline(t time.Time) error      { return c.queue.SetReadDeadline(t) }
func (c *packetConn) SetReadDeadline(t time.Time) error  { return c.queue.SetReadDeadline(t) }
func (c *packetConn) SetWriteDeadline(_ time.Time) error { return nil }

// silent keeps pion/dtls from writing to standard error: its results are
// reported through done.
type silent struct{}

func (silent) NewLogger(string) logging.LeveledLogger { return silentLogger{} }

type silentLogger struct{}

func (silentLogger) Trace(string)          {}
func (silentLogger) Tracef(string, ...any) {}
func (silentLogger) Debug(string)          {}
func (silentLogger) Debugf(string, ...any) {}
func (silentLogger) Info(string)           {}
func (silentLogger) Infof(string, ...any)  {}
func (silentLogger) Warn(string)           {}
func (silentLogger) Warnf(string, ...any)  {}
func (silentLogger) Error(string)          {}
func (silentLogger) Errorf(string, ...any) {}
