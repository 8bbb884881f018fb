package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/audio"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/authority"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/kamailio"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/nameserver"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/sipp"
)

// silence is a server that takes connections and says nothing, until the test ends.
func silence(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // connections in the backlog go with it
	return l.Addr().(*net.TCPAddr).Port
}

// A carrier that is found by NAPTR and SRV and talks over mutual TLS. Its first
// server is dead: the first call goes on over the second within seconds, the next
// one at once. The gateway's certificate is renewed during a call.
func TestCarrierOverMutualTLS(t *testing.T) {
	t.Parallel()
	a := authority.New(t)
	gwCertificate, gwKey := a.Issue("gateway", "gw.operator.example")
	certificate, key := a.Issue("carrier", "carrier.example")
	proxy, secure, telephone := port.Free(t), port.Free(t), port.Free(t)
	zone := nameserver.Start(t,
		"naptr-record=carrier.example,10,10,s,SIPS+D2T,,_sips._tcp.carrier.example",
		fmt.Sprintf("srv-host=_sips._tcp.carrier.example,a.carrier.example,%d,10,100", silence(t)),
		fmt.Sprintf("srv-host=_sips._tcp.carrier.example,b.carrier.example,%d,20,100", secure),
		"host-record=a.carrier.example,127.0.0.1", "host-record=b.carrier.example,127.0.0.1")
	listen := port.Address(t)
	settings := gateway.Settings{
		"sip.listeners":          []map[string]any{{"network": "tls", "address": listen}},
		"sip.tls.certificate":    gwCertificate,
		"sip.tls.key":            gwKey,
		"sip.tls.ca":             a.CA,
		"sip.tls.client_ca":      a.CA,
		"sip.tls.require_client": true,
		"sip.dns.servers":        []string{zone},
		"sip.trunks":             secureTrunk("carrier.example"),
	}
	proxied := kamailio.Start(t, kamailio.Config{
		Port: proxy, TLS: &kamailio.TLS{Port: secure, Certificate: certificate, Key: key, CA: a.CA},
		Routes: []kamailio.Route{
			{Number: landline, Address: address(telephone)},
			{Number: ada, Address: listen, Transport: "tls"},
		},
	})
	g := gateway.NewSplit(t, "", 1, settings)
	d := g.Device(ada)

	out := func(within time.Duration) (*sipp.Telephone, *device.Call) {
		t.Helper()
		far := audio.Listen(t, farHz)
		phone := sipp.Listen(t, sipp.Config{Media: far.Port(), Port: telephone})
		call := d.Call("tel:"+landline, browserHz)
		proxied.AwaitLog(within, "by tls to "+landline)
		call.AwaitConnected(patient)
		call.AwaitTone(patient, farHz)
		far.AwaitTone(patient, browserHz)
		return phone, call
	}
	phone, call := out(patient)
	g.Control.AwaitOutput(patient, "a target went down")

	// The certificate is renewed: whoever connects from now on sees the new one.
	a.Issue("gateway", "renewed.operator.example")
	await(t, "the renewed certificate", func() error {
		c, err := tls.Dial("tcp", listen, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		defer c.Close()
		if name := c.ConnectionState().PeerCertificates[0].DNSNames[0]; name != "renewed.operator.example" {
			return fmt.Errorf("the certificate is that of %s", name)
		}
		return nil
	})
	call.AwaitTone(patient, farHz)
	phone.Do("bye") // over a connection of the proxy's own, with the renewed certificate
	call.AwaitStatus(patient, "Terminated")
	phone.AwaitSuccess(patient)

	// And a call from there.
	far := audio.Listen(t, farHz)
	caller := sipp.Call(t, sipp.Config{Media: far.Port(), From: landline, Name: "Landline", To: ada, Via: proxied.Address()})
	in := d.AwaitInvitation(patient, browserHz, func(device.Session) bool { return true })
	in.Answer()
	in.AwaitTone(patient, farHz)
	far.AwaitTone(patient, browserHz)

	// Trunks change while it is up: nonsense changes nothing, sense does.
	g.Reload(gateway.Settings{"sip.trunks": []map[string]any{{"name": "carrier", "targets": []string{"not a host"}}}})
	g.Control.AwaitOutput(patient, "the old one stays in force")
	g.Reload(gateway.Settings{"sip.trunks": secureTrunk(address(secure))})
	g.Control.AwaitOutput(patient, "trunks have a new configuration")
	in.HangUp()
	in.AwaitStatus(patient, "Terminated")
	caller.AwaitSuccess(patient)
	phone, call = out(patient)
	call.HangUp()
	call.AwaitStatus(patient, "Terminated")
	phone.AwaitSuccess(patient)
}

// secureTrunk to a target, known by its certificate.
func secureTrunk(target string) []map[string]any {
	return []map[string]any{{
		"name": "carrier", "targets": []string{target}, "domain": "carrier.example", "transport": "auto",
		"trusted": true, "allowed_names": []string{"carrier.example"}, "keep_alive": "1s",
	}}
}
