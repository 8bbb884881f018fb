package gateway

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/devoauth"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/authority"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/process"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/program"
)

// client of the authorization server of split gateways.
const client = "test"

// Split is a control plane with media nodes in processes of their own, and an
// authorization server in the test's.
type Split struct {
	*Gateway
	Nodes []*Node
	// Authority made the certificate of the control plane and is trusted by it.
	Authority *authority.Authority

	announce string
	node     Settings
}

// SplitConfig of a split gateway.
type SplitConfig struct {
	// DSN of the database; empty: a file.
	DSN string
	// Nodes is the number of media nodes to begin with.
	Nodes int
	// Control and Node are settings of the test's own, of the control plane and
	// of every media node.
	Control, Node Settings
	// Others starts media nodes of the test's own, which announce themselves to
	// the URL of the control plane; nil for none.
	Others func(controlPlane, secret string)
}

// Node is a media node.
type Node struct {
	*process.Process
	ID string
	// Port that browsers send to.
	Port int
}

// NewSplit starts a control plane on the database and a number of media nodes;
// without a database it uses a file.
func NewSplit(t testing.TB, dsn string, nodes int, more Settings) *Split {
	t.Helper()
	return SplitConfig{DSN: dsn, Nodes: nodes, Control: more}.Start(t)
}

// Start starts the gateway.
func (c SplitConfig) Start(t testing.TB) *Split {
	t.Helper()
	dir, dsn := t.TempDir(), c.DSN
	s := &Split{Gateway: &Gateway{t: t, SIP: port.Address(t)}, Authority: authority.New(t), node: c.Node}
	admin, public, secure, announce := port.Address(t), port.Address(t), port.Free(t), port.Address(t)
	s.URL, s.Admin, s.announce = "http://"+public, "http://"+admin, "http://"+announce
	s.Roots = s.Authority.Pool
	issuer := authorization(t)
	s.token = issuer.token
	key := make([]byte, 32)
	rand.Read(key)
	if dsn == "" {
		dsn = filepath.Join(dir, "isthmus.db")
	}
	origin := fmt.Sprintf("https://127.0.0.1:%d", secure)
	settings := Settings{
		"log.level": "debug",
		"admin":     admin,
		"http": []map[string]any{
			{"address": public},
			{"address": fmt.Sprintf("127.0.0.1:%d", secure), "certificate": s.Authority.Certificate, "key": s.Authority.Key},
		},
		"nodes.listen.address":    announce,
		"nodes.shared_secret":     secret,
		"nodes.announce_interval": "1s",
		"nodes.request_timeout":   "1s",
		"auth.issuers":            []map[string]any{{"issuer": issuer.url, "jwks_url": issuer.url + "/jwks", "audiences": []string{"isthmus"}}},
		"sip.listeners":           listeners(s.SIP),
		"relay.sink_url":          origin + "/relay",
		"notify.allow_origins":    []string{origin},
		// Sinks of the tests.
		"notify.allow_networks": []string{"127.0.0.0/8"},
		"notify.ca_files":       []string{s.Authority.CA},
		"store.dsn":             dsn,
		"store.sealing_key":     base64.StdEncoding.EncodeToString(key),
	}.with(c.Control)
	s.settings, s.dir = settings, dir
	s.config = process.Config{
		Name: "controlplane", Path: program.Path(t, program.ControlPlane), Dir: dir,
		Args: []string{"--config", settings.write(t, dir)},
	}
	// Ready needs a node, and nodes wait for the control plane.
	if _, ok := settings["nodes.listen.certificate"]; ok {
		s.announce = "https://" + announce
	}
	for i := range c.Nodes {
		s.AddNode(fmt.Sprintf("node-%d", i+1))
	}
	if c.Others != nil {
		c.Others(s.announce, secret)
	}
	s.run()
	return s
}

// AddNode starts another media node, which may differ from the others.
func (s *Split) AddNode(id string, more ...Settings) *Node {
	s.t.Helper()
	dir := s.t.TempDir()
	admin := port.Address(s.t)
	settings := media(s.t, id).with(Settings{"log.level": "debug", "admin": admin, "control_planes": []string{s.announce}}).with(s.node)
	for _, m := range more {
		settings = settings.with(m)
	}
	file := settings.write(s.t, dir)
	n := &Node{ID: id, Port: settings["webrtc.port"].(int), Process: process.Start(s.t, process.Config{
		Name: id, Path: program.Path(s.t, program.MediaPlane), Args: []string{"--config", file}, Dir: dir,
	})}
	n.AwaitReady(starting, "http://"+admin+"/healthz")
	s.Nodes = append(s.Nodes, n)
	return n
}

// issuer is an authorization server.
type issuer struct {
	url   string
	token func(number string) string
}

func authorization(t testing.TB) issuer {
	t.Helper()
	var handler http.Handler
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(listener.Close)
	c := devoauth.Default()
	c.Issuer = listener.URL
	c.Clients = []devoauth.Client{{ID: client, Secret: "secret of the test"}}
	server, err := devoauth.New(c)
	if err != nil {
		t.Fatal(err)
	}
	handler = server.Handler()
	return issuer{url: listener.URL, token: func(number string) string {
		t.Helper()
		answer, err := server.Token(context.Background(), devoauth.TokenRequest{ClientID: client, Number: number})
		if err != nil {
			t.Fatal(err)
		}
		return answer.AccessToken
	}}
}
