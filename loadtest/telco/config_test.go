package telco

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, n := range DemoNumbers() {
		if !isE164(n.Number) || scenarios[n.Scenario] == nil || n.Description == "" {
			t.Errorf("demo number %+v is incomplete", n)
		}
	}
}

func TestValidateNamesTheKey(t *testing.T) {
	for key, break_ := range map[string]func(*Config){
		"listen":                   func(c *Config) { c.Listen = "localhost" },
		"advertise":                func(c *Config) { c.Listen = "0.0.0.0:5060" },
		"rtp_address":              func(c *Config) { c.RTPAddress = "eth0" },
		"domain":                   func(c *Config) { c.Domain = "a b" },
		"gateway":                  func(c *Config) { c.Gateway = "gateway" },
		"gateway_transport":        func(c *Config) { c.GatewayTransport = "tls" },
		"port_min":                 func(c *Config) { c.PortMin, c.PortMax = 4000, 4000 },
		"country_code":             func(c *Config) { c.CountryCode = "49" },
		"subscribers[1].number":    func(c *Config) { c.Subscribers = []Subscriber{{Number: alice}, {Number: "123"}} },
		"prefixes[0]":              func(c *Config) { c.Prefixes = []string{"1555"} },
		"numbers[0].scenario":      func(c *Config) { c.Numbers = []Number{{Number: alice, Scenario: "dance"}} },
		"registrar.algorithms":     func(c *Config) { c.Registrar.Algorithms = []string{"SHA-1"} },
		"registrar.min_expires":    func(c *Config) { c.Registrar.MinExpires = 2 * time.Hour },
		"registrar.nonce_lifetime": func(c *Config) { c.Registrar.NonceLifetime = 0 },
		"ring_timeout":             func(c *Config) { c.RingTimeout = 0 },
		"time_scale":               func(c *Config) { c.TimeScale = 0 },
	} {
		c := Default()
		break_(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("%s: %v", key, err)
		}
		if _, err := New(c); err == nil {
			t.Errorf("%s: New accepts it", key)
		}
	}
}

// Every key has a name and a help text, and a written file reads back.
func TestConfigFile(t *testing.T) {
	var check func(reflect.Type)
	check = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := f.Tag.Get("yaml")
			if name == "-" {
				continue
			}
			if name == "" || f.Tag.Get("help") == "" {
				t.Errorf("%s.%s has no yaml name or no help", typ, f.Name)
			}
			if f.Type.Kind() == reflect.Struct {
				check(f.Type)
			}
		}
	}
	check(reflect.TypeFor[Config]())
	check(reflect.TypeFor[Subscriber]())
	check(reflect.TypeFor[Number]())

	want := Default()
	want.Subscribers = []Subscriber{{Number: alice, Password: "x"}}
	text, err := yaml.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Config
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.RingTime != want.RingTime || got.Subscribers[0] != want.Subscribers[0] || got.Registrar.MaxExpires != want.Registrar.MaxExpires {
		t.Errorf("read back as %+v", got)
	}
}

func TestBusyPortAndOverrides(t *testing.T) {
	network, _ := start(t, func(c *Config) {
		c.Numbers = []Number{{"+15550100", ScenarioBusy, "Was an echo once"}, {"+15557777", ScenarioTone, "New"}}
	})
	c := Default()
	c.Listen = network.Addr().String()
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "listen: ") {
		t.Errorf("a busy port gives %v", err)
	}
	numbers := network.Numbers()
	if len(numbers) != len(DemoNumbers())+1 {
		t.Errorf("%d numbers", len(numbers))
	}
	found := 0
	for _, n := range numbers {
		if n.Number == "+15550100" && n.Scenario == ScenarioBusy || n.Number == "+15557777" {
			found++
		}
	}
	if found != 2 {
		t.Errorf("the configured numbers are missing in %v", numbers)
	}
}

func TestCloseWithoutRun(t *testing.T) {
	n, err := New(Default())
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	again := Default()
	again.Listen = n.Addr().String()
	if n, err = New(again); err != nil {
		t.Fatalf("the port is still taken: %v", err)
	}
	n.Close()
}

func TestHTTP(t *testing.T) {
	network, gateway, _ := startPair(t, "udp", nil)
	h := network.Handler()
	ask := func(method, path, body string) (int, map[string]any) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		var out map[string]any
		json.Unmarshal(w.Body.Bytes(), &out)
		return w.Code, out
	}
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/numbers", "", http.StatusOK},
		{"GET", "/call", "", http.StatusMethodNotAllowed},
		{"POST", "/call", `{"to":`, http.StatusBadRequest},
		{"POST", "/call", `{"to":"` + alice + `"} {}`, http.StatusBadRequest},
		{"POST", "/call", `{"to":"` + alice + `","loud":true}`, http.StatusBadRequest},
		{"POST", "/call", `{"to":"nobody"}`, http.StatusBadRequest},
		{"POST", "/call", `{"to":"` + alice + `","scenario":"busy"}`, http.StatusBadRequest},
		{"POST", "/call", `{"to":"` + alice + `","ring":-1}`, http.StatusBadRequest},
		{"POST", "/call", `{"to":"` + strings.Repeat("1", 5000) + `"}`, http.StatusRequestEntityTooLarge},
	} {
		if status, out := ask(c.method, c.path, c.body); status != c.status {
			t.Errorf("%s %s %.60s: %d %v, want %d", c.method, c.path, c.body, status, out, c.status)
		}
	}
	came := make(chan string, 1)
	gateway.Handle(alice, func(_ context.Context, c *Call) { came <- c.Peer(); c.Reject(486, 17) })
	status, out := ask("POST", "/call", `{"to":"`+alice+`","from":"+15550101","displayName":"Tone","scenario":"echo","ring":5}`)
	if status != http.StatusAccepted || out["callId"] == "" || out["to"] != alice {
		t.Fatalf("%d %v", status, out)
	}
	select {
	case peer := <-came:
		if peer != "+15550101" {
			t.Errorf("%s calls", peer)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no call came")
	}

	lonely, _ := start(t, func(c *Config) { c.Subscribers = []Subscriber{{Number: alice}} })
	w := httptest.NewRecorder()
	lonely.Handler().ServeHTTP(w, httptest.NewRequest("POST", "/call", strings.NewReader(`{"to":"`+alice+`"}`)))
	if w.Code != http.StatusConflict {
		t.Errorf("a call that has no way gives %d", w.Code)
	}
}
