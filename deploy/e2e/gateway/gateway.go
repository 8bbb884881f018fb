// Package gateway runs the gateway of end-to-end tests, as the programs that are
// shipped: the all-in-one, or a control plane with media nodes apart. Everything
// listens on free ports of the loopback address.
package gateway

import (
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/condition"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/process"
)

// starting bounds the start of a program.
const starting = 30 * time.Second

// secret of the two planes.
const secret = "shared by the planes of a test"

// Gateway is a running gateway.
type Gateway struct {
	// Control is the all-in-one or the control plane.
	Control *process.Process
	// URL of the page and the APIs, Admin of health and metrics.
	URL, Admin string
	// Secure is the page and the APIs over TLS, of an all-in-one.
	Secure string
	// SIP is host:port of the SIP listener.
	SIP string
	// Roots trust its certificates.
	Roots *x509.CertPool

	t      testing.TB
	token  func(number string) string
	config process.Config
	// settings of a split gateway's control plane, which are in the directory.
	settings Settings
	dir      string
}

// Reload changes settings of the control plane of a split gateway while it runs.
func (g *Gateway) Reload(more Settings) {
	g.t.Helper()
	g.settings.with(more).write(g.t, g.dir)
	g.Control.Signal(syscall.SIGHUP)
}

// Token is an access token of a subscriber.
func (g *Gateway) Token(number string) string {
	g.t.Helper()
	return g.token(number)
}

// Device makes a registered device of a subscriber.
func (g *Gateway) Device(number string) *device.Device {
	g.t.Helper()
	return device.New(g.t, device.Config{API: g.URL, Token: g.Token(number), Number: number, Roots: g.Roots})
}

// SIPPort of the SIP listener.
func (g *Gateway) SIPPort() int {
	g.t.Helper()
	_, text, _ := strings.Cut(g.SIP, ":")
	p, err := strconv.Atoi(text)
	if err != nil {
		g.t.Fatal(err)
	}
	return p
}

// Metric is the sum of the samples of a metric whose labels contain the texts, 0
// when there is none.
func (g *Gateway) Metric(name string, labels ...string) float64 {
	g.t.Helper()
	resp, err := http.Get(g.Admin + "/metrics")
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return sum(string(text), name, labels)
}

func sum(text, name string, labels []string) float64 {
	total := 0.0
lines:
	for line := range strings.Lines(text) {
		sample, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || (sample != name && !strings.HasPrefix(sample, name+"{")) {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(sample, l) {
				continue lines
			}
		}
		v, err := strconv.ParseFloat(value, 64)
		if err == nil {
			total += v
		}
	}
	return total
}

// AwaitMetric waits until a metric has at least the value.
func (g *Gateway) AwaitMetric(within time.Duration, least float64, name string, labels ...string) {
	g.t.Helper()
	condition.Await(g.t, within, fmt.Sprintf("%s%v of at least %v", name, labels, least), func() error {
		if v := g.Metric(name, labels...); v < least {
			return fmt.Errorf("it is %v", v)
		}
		return nil
	})
}

// run starts the program, again after it has ended.
func (g *Gateway) run() {
	g.t.Helper()
	g.Launch()
	g.AwaitReady()
}

// Launch starts the program, which must not run, without waiting for anything.
func (g *Gateway) Launch() {
	g.t.Helper()
	g.Control = process.Start(g.t, g.config)
}

// AwaitReady waits until the program takes requests.
func (g *Gateway) AwaitReady() {
	g.t.Helper()
	g.Control.AwaitReady(starting, g.Admin+"/readyz")
}

// Restart starts the program again, which must have ended.
func (g *Gateway) Restart() {
	g.t.Helper()
	<-g.Control.Done()
	g.run()
}

// listeners of SIP on one port.
func listeners(address string) []map[string]any {
	return []map[string]any{{"network": "udp", "address": address}, {"network": "tcp", "address": address}}
}

// media are the settings of a media node.
func media(t testing.TB, id string) Settings {
	t.Helper()
	rtp := port.Range(t, 80)
	return Settings{
		"node_id":             id,
		"rpc.listen":          port.Address(t),
		"rpc.shared_secret":   secret,
		"webrtc.bind":         []string{"127.0.0.1"},
		"webrtc.port":         port.Free(t),
		"rtp.bind":            []string{"127.0.0.1"},
		"rtp.port_min":        rtp,
		"rtp.port_max":        rtp + 79,
		"timers.quality":      "500ms",
		"timers.tick":         "100ms",
		"timers.checkpoint":   "1s",
		"limits.sessions":     200,
		"timers.orphan_after": "1m",
	}
}
