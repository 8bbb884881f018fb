package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane"
	"github.com/isthmus-gateway/isthmus/deploy/boot"
	"github.com/isthmus-gateway/isthmus/deploy/devoauth"
	"github.com/isthmus-gateway/isthmus/loadtest/telco"
	"github.com/isthmus-gateway/isthmus/mediaplane"
)

// Config of the all-in-one. What is not set is derived by wire, so that each part
// knows the others.
type Config struct {
	Log       boot.Log            `yaml:"log"`
	DataDir   string              `yaml:"data_dir" help:"Directory for the database, keys and the local certificate authority; made when missing."`
	PublicURL string              `yaml:"public_url" help:"Where browsers on this machine find the page, the APIs and the demo OAuth server."`
	SecureURL string              `yaml:"secure_url" help:"The same over TLS: where events reach the relay."`
	Parts     Parts               `yaml:"parts"`
	Control   controlplane.Config `yaml:"control_plane"`
	Media     mediaplane.Config   `yaml:"media_plane"`
	OAuth     devoauth.Config     `yaml:"demo_oauth"`
	Network   telco.Config        `yaml:"demo_network"`

	// fromURLs: the listeners of the control plane are those of the URLs.
	fromURLs bool
	// freshSecret of the two planes is not in its file yet.
	freshSecret string
}

// Parts can be switched off one by one, to be replaced by the real thing.
type Parts struct {
	MediaNode bool `yaml:"media_node" help:"Run a media node in this process."`
	OAuth     bool `yaml:"oauth" help:"Run the demo OAuth server; otherwise configure control_plane.auth.issuers."`
	Network   bool `yaml:"network" help:"Run the simulated telco network; otherwise configure control_plane.sip.trunks."`
	Softphone bool `yaml:"softphone" help:"Serve the softphone page."`
}

// Applications of the demo OAuth server.
const (
	phoneClient = "softphone"
	docsClient  = "openapi"
	demoClient  = "demo-app"
	demoSecret  = "demo-app-secret"
	// demoWebhook is the origin on this machine at which the demo application
	// may have its own sink of events.
	demoWebhook = "https://localhost:8444"
)

// defaults are those of a demonstration on one machine.
func defaults() *Config {
	c := &Config{
		Log:       boot.DefaultLog(),
		DataDir:   ".isthmus",
		PublicURL: "http://localhost:8080",
		SecureURL: "https://localhost:8443",
		Parts:     Parts{MediaNode: true, OAuth: true, Network: true, Softphone: true},
		Control:   controlplane.Default(),
		Media:     mediaplane.Default(),
		OAuth:     devoauth.Default(),
		Network:   telco.Default(),
	}
	c.Control.HTTP = nil
	c.Control.Ladder.Enabled = true
	c.Control.SIP.Listeners[0].Address = "127.0.0.1:15060"
	c.Control.SIP.Listeners[1].Address = "127.0.0.1:15060"
	c.Control.Store.DSN = ""
	c.Media.NodeID = "media-1"
	c.Network.Listen = "127.0.0.1:15070"
	c.Network.Prefixes = []string{"+15550"}
	c.OAuth.Subscribers = []devoauth.Subscriber{
		{Number: "+15550001", Name: "Ada"},
		{Number: "+15550002", Name: "Grace"},
		{Number: "+15550003", Name: "Hedy"},
		{Number: "+15550004", Name: "Mary"},
	}
	return c
}

// wire derives what the configuration leaves open.
func (c *Config) wire() {
	c.wireAddresses()
	c.wireOAuth()
	control := &c.Control
	if control.Store.DSN == "" {
		control.Store.DSN = filepath.Join(c.DataDir, "isthmus.db")
	}
	if control.Nodes.SharedSecret == "" && control.Nodes.Certificate == "" && c.Parts.MediaNode {
		control.Nodes.SharedSecret = c.planesSecret()
	}
	if c.Parts.MediaNode {
		if c.Media.RPC.SharedSecret == "" {
			c.Media.RPC.SharedSecret = control.Nodes.SharedSecret
		}
		if len(c.Media.ControlPlanes) == 0 {
			c.Media.ControlPlanes = []string{scheme(control.Nodes.Listen.Certificate) + control.Nodes.Listen.Address}
		}
	}
	if c.Parts.Network {
		if len(control.SIP.Trunks) == 0 {
			control.SIP.Trunks = []controlplane.Trunk{{
				Name: "demo", Targets: []string{c.Network.Listen}, Domain: c.Network.Domain, Trusted: true,
			}}
		}
		if c.Network.Gateway == "" && len(control.SIP.Listeners) > 0 {
			c.Network.Gateway = control.SIP.Listeners[0].Address
		}
	}
}

// wireAddresses makes the listeners and the relay's sinks agree with the URLs.
func (c *Config) wireAddresses() {
	control := &c.Control
	secure, plain := hostOf(c.SecureURL, "443"), hostOf(c.PublicURL, "80")
	if len(control.HTTP) == 0 {
		c.fromURLs = true
		_, port, _ := net.SplitHostPort(plain)
		_, securePort, _ := net.SplitHostPort(secure)
		control.HTTP = []controlplane.Listener{
			{Address: net.JoinHostPort("127.0.0.1", port)},
			{Address: ":" + securePort, Certificate: c.file(certFile), Key: c.file(certKeyFile)},
		}
	}
	if control.Relay.SinkURL == "" {
		control.Relay.SinkURL = c.SecureURL + "/relay"
	}
	if len(control.Notify.AllowOrigins) == 0 {
		control.Notify.AllowOrigins = []string{c.SecureURL}
		if c.Parts.OAuth {
			control.Notify.AllowOrigins = append(control.Notify.AllowOrigins, demoWebhook)
		}
	}
	if len(control.Notify.CAFiles) == 0 {
		control.Notify.CAFiles = []string{c.file(caFile)}
	}
	if len(control.Auth.ExternalURLs) == 0 {
		control.Auth.ExternalURLs = append([]string{c.PublicURL}, c.secureOrigins()...)
	}
}

// secureOrigins are the TLS listener's under every address of this machine.
func (c *Config) secureOrigins() []string {
	_, port, _ := net.SplitHostPort(hostOf(c.SecureURL, "443"))
	origins := []string{c.SecureURL}
	for _, ip := range localAddresses() {
		origins = append(origins, "https://"+net.JoinHostPort(ip.String(), port))
	}
	return origins
}

// wireOAuth makes the demo OAuth server the issuer of what the APIs accept.
func (c *Config) wireOAuth() {
	if !c.Parts.OAuth {
		return
	}
	o, control := &c.OAuth, &c.Control
	if o.Issuer == "" {
		o.Issuer = c.PublicURL + "/oauth"
	}
	if o.KeyFile == "" {
		o.KeyFile = c.file("oauth-keys.json")
	}
	origins := append([]string{c.PublicURL}, c.secureOrigins()...)
	if len(o.Origins) == 0 {
		o.Origins = origins[1:]
	}
	if len(o.Clients) == 0 {
		o.Clients = []devoauth.Client{
			{ID: phoneClient, Name: "Softphone", RedirectURIs: suffixed(origins, "/")},
			{ID: docsClient, Name: "API documentation", RedirectURIs: suffixed(origins, "/openapi/callback")},
			{ID: demoClient, Name: "Demo application", Secret: demoSecret},
		}
	}
	if len(control.Auth.Issuers) == 0 {
		control.Auth.Issuers = []controlplane.Issuer{{Issuer: o.Issuer, JWKSURL: o.Issuer + "/jwks", Audiences: []string{o.Audience}}}
		control.API.OpenIDConfiguration = o.Issuer + "/.well-known/openid-configuration"
		control.API.DocsClientID = docsClient
		control.Calls.Applications = []controlplane.Application{{ClientID: demoClient, Numbers: c.Network.Prefixes}}
	}
}

// prepare derives what is open and makes the files that the parts need.
func (c *Config) prepare() error {
	c.wire()
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	if c.freshSecret != "" {
		if err := os.WriteFile(c.file(secretFile), []byte(c.freshSecret+"\n"), 0o600); err != nil {
			return fmt.Errorf("data_dir: %w", err)
		}
	}
	return localCA(c.DataDir)
}

func (c *Config) file(name string) string { return filepath.Join(c.DataDir, name) }

func scheme(certificate string) string {
	if certificate == "" {
		return "http://"
	}
	return "https://"
}

// hostOf is the host:port of a URL.
func hostOf(text, port string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func suffixed(origins []string, suffix string) []string {
	out := make([]string, len(origins))
	for i, o := range origins {
		out[i] = strings.TrimSuffix(o, "/") + suffix
	}
	return out
}

// secretFile keeps the secret of the two planes, for commands that talk to them.
const secretFile = "planes.secret"

// planesSecret is the secret of the two planes when none is configured.
func (c *Config) planesSecret() string {
	if b, err := os.ReadFile(c.file(secretFile)); err == nil && len(bytes.TrimSpace(b)) >= 16 {
		return string(bytes.TrimSpace(b))
	}
	c.freshSecret = randomSecret()
	return c.freshSecret
}

func randomSecret() string {
	b := make([]byte, 24)
	rand.Read(b)
	return hex.EncodeToString(b)
}
