package conformance

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/authority"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/process"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/program"
	"github.com/isthmus-gateway/isthmus/loadtest/telco"
)

// site is everything that runs for one store: an authorization server and four
// gateways, which differ in their configuration.
type site struct {
	tokens *issuer
	ca     *authority.Authority
	device *deviceCertificate

	gateways map[string]*gateway
}

// gateway is a running gateway with a telephone network of its own.
type gateway struct {
	name        string
	url, secure string
	client      *http.Client
	network     *telco.Network
	documents   *documents
}

// Names of the gateways.
const (
	// usual has the default timers, and limits that a scenario can reach.
	usual = "usual"
	// hasty has short timers and takes emergency calls.
	hasty = "hasty"
	// strict serves one generation and allows few requests.
	strict = "strict"
	// parted has its control plane and its media node in processes of their own,
	// does not wait long for media, and takes r2.2 to the letter.
	parted = "parted"
)

type settings map[string]any

func startSite(t *testing.T, dsn func() string) *site {
	t.Helper()
	s := &site{ca: authority.New(t), device: newDeviceCertificate(t), gateways: map[string]*gateway{}}
	s.tokens = newIssuer(t)
	for name, more := range map[string]settings{
		usual: {
			"calls.limits.registrations_per_number": 4,
			"calls.limits.registrations_per_user":   3,
			"calls.limits.subscriptions":            6,
		},
		hasty: {
			"calls.limits.devices_per_user":    2,
			"calls.ring_timeout":               "3s",
			"calls.late_offer_wait":            "1s",
			"calls.ended_retention":            "3s",
			"calls.hold_wait":                  "200ms",
			"calls.calls_outlive_registration": false,
			"calls.decline_busy":               true,
			"calls.emergency":                  true,
			"sip.timers.invite":                "3s",
			"sip.timers.t1":                    "100ms",
			"notify.retry_for":                 "3s",
			"notify.timeout":                   "1s",

			"api.r22.home_domain": "home.example",
		},
		parted: {
			"calls.emergency_address_missing": []string{without},
			"calls.media_timeout":             "2s",
			"api.r22.envelope_attributes":     true,
		},
		strict: {
			"api.generations":     []string{"r3.1"},
			"api.examples":        false,
			"api.rate.per_second": 0.01,
			"api.rate.burst":      3,
			"api.cors_origins":    []string{"https://app.example"},
			"api.max_body":        2048,
		},
	} {
		s.gateways[name] = s.start(t, name, dsn(), more)
	}
	return s
}

func (s *site) start(t *testing.T, name, dsn string, more settings) *gateway {
	t.Helper()
	dir := t.TempDir()
	public, secure, sip, admin := port.Address(t), port.Address(t), port.Address(t), port.Address(t)
	g := &gateway{name: name, url: "http://" + public, secure: "https://" + secure, network: startNetwork(t, sip)}
	// A proof of possession names the URL, a bound token needs the certificate.
	roots := s.ca.Pool
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 64,
		DisableCompression:  true,
	}
	g.client = &http.Client{Transport: transport, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(transport.CloseIdleConnections)
	key := make([]byte, 32)
	rand.Read(key)
	rtp := port.Range(t, 280)
	if dsn == "" {
		dsn = filepath.Join(dir, "isthmus.db")
	}
	control := settings{
		"http": []settings{
			{"address": public},
			{"address": secure, "certificate": s.ca.Certificate, "key": s.ca.Key, "client_ca": s.device.ca},
		},
		"admin":                   admin,
		"nodes.listen.address":    port.Address(t),
		"nodes.shared_secret":     "shared by the planes",
		"auth.issuers":            s.tokens.trusted(),
		"auth.external_urls":      []string{g.url, g.secure},
		"calls.registrations.min": "1s",
		"calls.subscriptions.min": "1s",
		"calls.numbers":           []string{subscribers},
		"calls.applications":      []settings{{"client_id": serverApp, "numbers": []string{subscribers}}},
		"sip.listeners":           []settings{{"network": "udp", "address": sip}, {"network": "tcp", "address": sip}},
		"sip.trunks": append(accounts(t, g.network.Addr().String()), settings{
			"name": "network", "targets": []string{g.network.Addr().String()}, "domain": g.network.Domain(),
			"trusted": true, "emergency": true, "location": "always",
		}),
		"relay.sink_url":        g.secure + "/relay",
		"notify.allow_networks": []string{"127.0.0.1/32"},
		"notify.ca_files":       []string{s.ca.CA},
		"notify.backoff_min":    "50ms",
		"notify.backoff_max":    "200ms",
		"notify.per_host":       64,
		"store.dsn":             dsn,
		"store.sealing_key":     base64.StdEncoding.EncodeToString(key),
		"store.sqlite_sync":     "normal",
		"shutdown.grace":        "1s",
	}
	for k, v := range more {
		control[k] = v
	}
	media := settings{
		"rpc.listen":        port.Address(t),
		"rpc.shared_secret": "shared by the planes",
		"webrtc.bind":       []string{"127.0.0.1"},
		"webrtc.port":       port.Free(t),
		"rtp.bind":          []string{"127.0.0.1"},
		"rtp.port_min":      rtp,
		"rtp.port_max":      rtp + 279,
		"limits.sessions":   130,
	}
	run := runTogether
	if name == parted {
		run = runApart
	}
	run(t, g, dir, control, media).AwaitReady(30*time.Second, "http://"+admin+"/readyz")
	g.documents = fetchDocuments(t, g)
	return g
}

// runTogether starts the all-in-one, without what a site has of its own.
func runTogether(t *testing.T, g *gateway, dir string, control, media settings) *process.Process {
	t.Helper()
	config := settings{
		"log.level": "warn", "data_dir": filepath.Join(dir, "data"), "public_url": g.url, "secure_url": g.secure,
		"parts.oauth": false, "parts.network": false, "parts.softphone": false,
	}
	for k, v := range control {
		config["control_plane."+k] = v
	}
	for k, v := range media {
		config["media_plane."+k] = v
	}
	return process.Start(t, process.Config{
		Name: "isthmus (" + g.name + ")", Path: program.Path(t, program.Isthmus), Dir: dir, Quick: true,
		Args: []string{"run", "--config", config.write(t, dir)},
	})
}

// runApart starts a media node and a control plane, and answers the latter.
func runApart(t *testing.T, g *gateway, dir string, control, media settings) *process.Process {
	t.Helper()
	control["log.level"], media["log.level"] = "warn", "warn"
	media["node_id"], media["admin"] = "node", port.Address(t)
	media["control_planes"] = []string{"http://" + control["nodes.listen.address"].(string)}
	start := func(name, path string, config settings) *process.Process {
		return process.Start(t, process.Config{
			Name: name + " (" + g.name + ")", Path: path, Dir: dir, Quick: true, Args: []string{"--config", config.write(t, t.TempDir())},
		})
	}
	start("mediaplane", program.Path(t, program.MediaPlane), media)
	return start("controlplane", program.Path(t, program.ControlPlane), control)
}

// write makes a configuration file of keys with dots; JSON is YAML.
func (s settings) write(t *testing.T, dir string) string {
	t.Helper()
	tree := map[string]any{}
	for k, v := range s {
		at := tree
		path := strings.Split(k, ".")
		for _, name := range path[:len(path)-1] {
			next, ok := at[name].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[name] = next
			}
			at = next
		}
		at[path[len(path)-1]] = v
	}
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// startNetwork runs a telephone network in which every number is played by the
// scenario that owns it.
func startNetwork(t *testing.T, gateway string) *telco.Network {
	t.Helper()
	c := telco.Default()
	c.Gateway = gateway
	c.ReliableProvisional = true
	c.Subscribers = members()
	n, err := telco.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the telephone network: %v", err)
		}
	})
	return n
}
