// Package audio is the far end's media in end-to-end tests: tones in G.711 over
// RTP (RFC 3550, RFC 3551), an ear that tells what it hears, and a plain endpoint
// made of both that stands beside whatever peer does the signaling. It shares no
// code with the gateway.
package audio

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
)

// Endpoint is an RTP socket. It sends to where packets come from, in the codec
// that they have, so that the peer's description needs nothing but its port.
type Endpoint struct {
	*Ear
	voice *Voice
	conn  *net.UDPConn

	mu     sync.Mutex
	remote netip.AddrPort
	rests  bool
}

// Listen opens an endpoint until the test ends; it plays hz.
func Listen(t testing.TB, hz float64) *Endpoint {
	t.Helper()
	return ListenOn(t, "127.0.0.1", hz)
}

// ListenOn is Listen with the IP address to listen on.
func ListenOn(t testing.TB, ip string, hz float64) *Endpoint {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip), Port: port.Range(t, 2)})
	if err != nil {
		t.Fatal(err)
	}
	e := &Endpoint{Ear: NewEar(t, "the far end"), conn: conn}
	e.voice = NewVoice(0x1e0f0000+uint32(e.Port()), hz)
	stop := make(chan struct{})
	var work sync.WaitGroup
	work.Go(e.receive)
	work.Go(func() { Pace(stop, e.send) })
	t.Cleanup(func() {
		close(stop)
		conn.Close()
		work.Wait()
	})
	return e
}

// Port of the endpoint.
func (e *Endpoint) Port() int { return e.conn.LocalAddr().(*net.UDPAddr).Port }

// Play sends other tones from now on; none is silence.
func (e *Endpoint) Play(hz ...float64) { e.voice.Play(hz...) }

// Rest sends no packets any more, not even silent ones.
func (e *Endpoint) Rest() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rests = true
}

// Press sends keys as telephone events (RFC 4733).
func (e *Endpoint) Press(keys string) { e.voice.Press(keys) }

// Remote is where packets go: the source of the last one; invalid before.
func (e *Endpoint) Remote() netip.AddrPort {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.remote
}

func (e *Endpoint) receive() {
	buffer := make([]byte, 2048)
	for {
		n, from, err := e.conn.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		var p rtp.Packet
		if err != nil || n < 12 || isRTCP(buffer[1]) || p.Unmarshal(buffer[:n]) != nil || p.Version != 2 {
			continue // an ICMP error of the peer's, or no RTP
		}
		e.mu.Lock()
		e.remote = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		e.mu.Unlock()
		e.Take(&p)
	}
}

// isRTCP tells by the second byte (RFC 5761 section 4).
func isRTCP(b byte) bool { return b >= 192 && b <= 223 }

func (e *Endpoint) send() {
	e.mu.Lock()
	remote, rests := e.remote, e.rests
	e.mu.Unlock()
	if !remote.IsValid() || rests {
		return
	}
	if b, err := e.voice.Next(e.Law()).Marshal(); err == nil {
		_, _ = e.conn.WriteToUDPAddrPort(b, remote) // a peer that left is no error
	}
}

// Pace calls send every 20 ms until stop is closed.
func Pace(stop <-chan struct{}, send func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			send()
		}
	}
}
