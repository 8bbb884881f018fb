package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/authority"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/farend"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/pgtest"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/program"
	"github.com/isthmus-gateway/isthmus/loadtest/telco"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Remove()
	os.Exit(code)
}

// onEach measures on both stores.
func onEach(b *testing.B, more gateway.Settings, measure func(*testing.B, *site)) {
	for _, store := range []string{"postgres", "sqlite"} {
		b.Run(store, func(b *testing.B) {
			dsn := ""
			if store == "postgres" {
				dsn = pgtest.Start(b)
			}
			measure(b, newSite(b, dsn, more))
		})
	}
}

// site is a gateway with all that is around it.
type site struct {
	gateway *gateway.Split
	network *telco.Network
	sink    *httptest.Server
	client  *http.Client

	numbers atomic.Int64
	// heard gets every event before it is accepted; it may be set once.
	heard atomic.Pointer[func(at time.Time, e device.Event)]
}

// nodes have room for 100 calls each.
const nodes = 2

func newSite(b *testing.B, dsn string, more gateway.Settings) *site {
	b.Helper()
	network := farend.Start(b)
	settings := farend.Trunk(network)
	for k, v := range more {
		settings[k] = v
	}
	s := newSiteOf(b, gateway.SplitConfig{DSN: dsn, Nodes: nodes, Control: settings})
	s.network = network
	if err := network.SetGateway(s.gateway.SIP); err != nil {
		b.Fatal(err)
	}
	return s
}

// newSiteOf makes a site of a gateway with settings of its own, trunks included.
func newSiteOf(b *testing.B, c gateway.SplitConfig) *site {
	b.Helper()
	s := &site{}
	ca := authority.New(b)
	s.sink = httptest.NewUnstartedServer(http.HandlerFunc(s.take))
	s.sink.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Pair}, MinVersion: tls.VersionTLS12}
	s.sink.EnableHTTP2 = true
	s.sink.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.sink.StartTLS()
	b.Cleanup(s.sink.Close)
	settings := gateway.Settings{}
	for k, v := range map[string]any{
		"log.level":            "warn",
		"calls.media_timeout":  "0s", // nobody sends any
		"notify.ca_files":      []string{ca.CA},
		"notify.allow_origins": []string{s.sink.URL},
		"shutdown.grace":       "1s",
		"api.rate.per_second":  100000,
		"api.rate.burst":       100000,
	} {
		settings[k] = v
	}
	for k, v := range c.Control {
		settings[k] = v
	}
	c.Control, c.Node = settings, gateway.Settings{"log.level": "warn"}
	s.gateway = c.Start(b)
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	b.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	return s
}

// take is the sink.
func (s *site) take(w http.ResponseWriter, r *http.Request) {
	at := time.Now() // with the header, which is the first byte of a request
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if heard := s.heard.Load(); heard != nil {
		var e device.Event
		if json.Unmarshal(text, &e) == nil && json.Unmarshal(e.Data, &e.Session) == nil {
			(*heard)(at, e)
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *site) number(prefix string) string {
	return fmt.Sprintf("%s%07d", prefix, s.numbers.Add(1))
}

// user is a device with a subscription and a registration.
type user struct {
	*site
	number, token, device string
	registration          string
}

func (s *site) user() *user {
	number := s.number("+1555")
	return &user{site: s, number: number, token: s.gateway.Token(number), device: uuid.NewString()}
}

// do makes one request and answers how long it took.
func (u *user) do(method, path string, header map[string]string, in, out any) (time.Duration, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return 0, err
		}
	}
	r, err := http.NewRequestWithContext(context.Background(), method, u.gateway.URL+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+u.token)
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	began := time.Now()
	resp, err := u.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	took := time.Since(began)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(text, out)
	}
	return took, err
}

func (u *user) register() (time.Duration, error) {
	var answer struct {
		RegistrationID string `json:"registrationId"`
	}
	took, err := u.do("POST", device.Registrations, nil, map[string]any{"deviceId": u.device}, &answer)
	u.registration = answer.RegistrationID
	return took, err
}

func (u *user) subscribe() (id string, took time.Duration, err error) {
	const prefix = "org.camaraproject.webrtc-events-subscriptions.v0."
	var answer struct {
		ID string `json:"id"`
	}
	took, err = u.do("POST", device.Subscriptions, nil, map[string]any{
		"protocol": "HTTP", "sink": u.sink.URL + "/" + u.device,
		"types": []string{prefix + "session-status", prefix + "session-invitation", prefix + "registration-ends"},
		"config": map[string]any{
			"subscriptionDetail":     map[string]any{"deviceId": u.device},
			"subscriptionExpireTime": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		},
	}, &answer)
	return answer.ID, took, err
}

// call calls a number and answers the session's id.
func (u *user) call(far string) (id string, took time.Duration, err error) {
	var s device.Session
	took, err = u.do("POST", device.Calls, map[string]string{"registrationId": u.registration}, map[string]any{
		"originatorAddress": "tel:" + u.number, "receiverAddress": "tel:" + far, "offer": device.Description{SDP: device.SilentOffer()},
	}, &s)
	return s.ID, took, err
}

// latencies by what they are of.
type latencies struct {
	mu sync.Mutex
	of map[string][]time.Duration
}

func (l *latencies) add(what string, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[string][]time.Duration{}
	}
	l.of[what] = append(l.of[what], d)
}

// report reports the median and the 99th percentile of each, in milliseconds.
func (l *latencies) report(b *testing.B) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for what, all := range l.of {
		slices.Sort(all)
		at := func(q float64) float64 { return all[int(q*float64(len(all)-1))].Seconds() * 1000 }
		b.ReportMetric(at(0.50), what+"_p50_ms")
		b.ReportMetric(at(0.99), what+"_p99_ms")
	}
}

// quiet takes the usual figure away, which means nothing here.
func quiet(b *testing.B) { b.ReportMetric(0, "ns/op") }
