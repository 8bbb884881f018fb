// Package device is an application on a device, in Go: it registers through the
// CAMARA WebRTC APIs, reads its events from the Notification Relay and makes and
// takes calls with a PeerConnection. It stands for a browser where a test needs
// many of them, or needs to look inside. It shares no code with the gateway.
package device

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
)

// Config of a device.
type Config struct {
	// API is the base URL of the APIs.
	API string
	// Token is the subscriber's access token.
	Token string
	// Number of the subscriber, E.164.
	Number string
	// Roots are trusted beside the system's; nil is fine for plain HTTP.
	Roots *x509.CertPool
	// Sink that events go to in place of the relay.
	Sink string
	// Idle makes a device that neither subscribes nor registers by itself.
	Idle bool
}

// Device is a registered device.
type Device struct {
	t      testing.TB
	config Config
	client *http.Client
	inbox  *inbox

	ID             string
	RegistrationID string
	SubscriptionID string
}

// New makes a device, opens its event stream, subscribes to all events and
// registers.
func New(t testing.TB, c Config) *Device {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12}}
	d := &Device{t: t, config: c, client: &http.Client{Transport: transport}, inbox: newInbox(t, c.Number), ID: uuid.NewString()}
	t.Cleanup(transport.CloseIdleConnections)
	if c.Idle {
		return d
	}
	sink, credential := c.Sink, any(nil)
	if sink == "" {
		sink, credential = d.openRelay()
	}
	if err := d.Subscribe(sink, credential); err != nil {
		t.Fatalf("device %s: %v", c.Number, err)
	}
	if err := d.Register(); err != nil {
		t.Fatalf("device %s: %v", c.Number, err)
	}
	return d
}

const eventPrefix = "org.camaraproject.webrtc-events-subscriptions.v0."

// Subscribe subscribes to all events of the device.
func (d *Device) Subscribe(sink string, credential any) error {
	body := map[string]any{
		"protocol": "HTTP", "sink": sink,
		"types": []string{eventPrefix + "session-status", eventPrefix + "session-invitation", eventPrefix + "registration-ends"},
		"config": map[string]any{
			"subscriptionDetail":     map[string]any{"deviceId": d.ID},
			"subscriptionExpireTime": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		},
	}
	if credential != nil {
		body["sinkCredential"] = credential
	}
	var answer struct {
		ID string `json:"id"`
	}
	err := d.Do("POST", Subscriptions, nil, body, &answer)
	d.SubscriptionID = answer.ID
	return err
}

// Register registers the device.
func (d *Device) Register() error {
	var answer struct {
		RegistrationID string `json:"registrationId"`
	}
	err := d.Do("POST", Registrations, nil, map[string]any{"deviceId": d.ID}, &answer)
	d.RegistrationID = answer.RegistrationID
	return err
}

// Deregister ends the registration.
func (d *Device) Deregister() error {
	return d.Do("DELETE", Registrations+"/"+d.RegistrationID, nil, nil, nil)
}
