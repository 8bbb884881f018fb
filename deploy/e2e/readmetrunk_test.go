package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/audio"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/authority"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/baresip"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/kamailio"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/nameserver"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/sipp"
)

// trunkExample is the one of the README's examples of trunks that contains a text,
// with names and addresses of the world replaced by those of the test.
func trunkExample(t *testing.T, contains string, replace ...string) gateway.Settings {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "### Connect your SIP trunk")
	section, _, _ = strings.Cut(section, "\n### ")
	found := ""
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(section, -1) {
		if strings.Contains(block[1], contains) {
			found = block[1]
		}
	}
	if found == "" {
		t.Fatalf("the README has no example of a trunk with %q", contains)
	}
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(found, replace[i]) {
			t.Fatalf("the README's example does not contain %q:\n%s", replace[i], found)
		}
		found = strings.ReplaceAll(found, replace[i], replace[i+1])
	}
	var tree map[string]map[string]any
	if err := yaml.Unmarshal([]byte(found), &tree); err != nil {
		t.Fatalf("%v in\n%s", err, found)
	}
	s := gateway.Settings{}
	for section, keys := range tree {
		for key, value := range keys {
			s[section+"."+key] = value
		}
	}
	return s
}

// listenersExample replaces the listeners of an example.
func listenersExample(network string, sip int) []string {
	return []string{fmt.Sprintf("0.0.0.0:%s, advertise: ", network), fmt.Sprintf("127.0.0.1:%d, advertise: ", sip)}
}

// talkOut makes an outgoing call to a telephone, with audio both ways.
func talkOut(t *testing.T, d *device.Device, telephone int) {
	t.Helper()
	far := audio.Listen(t, farHz)
	phone := sipp.Listen(t, sipp.Config{Media: far.Port(), Port: telephone})
	call := d.Call("tel:"+landline, browserHz)
	call.AwaitConnected(patient)
	call.AwaitTone(patient, farHz)
	far.AwaitTone(patient, browserHz)
	call.HangUp()
	call.AwaitStatus(patient, "Terminated")
	phone.AwaitSuccess(patient)
}

// talkIn takes a call that comes through the proxy.
func talkIn(t *testing.T, d *device.Device, proxy *kamailio.Proxy) {
	t.Helper()
	far := audio.Listen(t, farHz)
	phone := sipp.Call(t, sipp.Config{Media: far.Port(), From: landline, Name: "Landline", To: ada, Via: proxy.Address()})
	call := d.AwaitInvitation(patient, secondHz, nil)
	call.Answer()
	call.AwaitTone(patient, farHz)
	far.AwaitTone(patient, secondHz)
	call.HangUp()
	call.AwaitStatus(patient, "Terminated")
	phone.AwaitSuccess(patient)
}

// What the README says about trunks is done here with Kamailio and telephones as
// the carrier: the first target is dead, the gateway is known by its address.
func TestReadmeTrunkByAddress(t *testing.T) {
	t.Parallel()
	proxy, telephone, sip := port.Free(t), port.Free(t), port.Free(t)
	settings := trunkExample(t, "sbc2.carrier.example", append(listenersExample("5060", sip),
		"advertise: 203.0.113.10", "advertise: 127.0.0.1",
		"sbc1.carrier.example:5060", "127.0.0.1:9", "sbc2.carrier.example:5060", address(proxy), "198.51.100.0/24", "127.0.0.0/8")...)
	carrier := kamailio.Start(t, kamailio.Config{Port: proxy, Routes: []kamailio.Route{
		{Number: landline, Address: address(telephone)}, {Number: ada, Address: address(sip), Transport: "tcp"},
	}})
	g := gateway.NewSplit(t, "", 1, settings)
	d := g.Device(ada)
	talkOut(t, d, telephone)
	talkIn(t, d, carrier)
}

func TestReadmeTrunkByPassword(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"MD5", "SHA-256"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			proxy, telephone := port.Free(t), port.Free(t)
			settings := trunkExample(t, "username: acme", "sip.carrier.example:5060", address(proxy))
			kamailio.Start(t, kamailio.Config{
				Port: proxy, Algorithm: algorithm, Accounts: []kamailio.Account{{User: ada, Password: "secret"}},
				Routes: []kamailio.Route{{Number: landline, Address: address(telephone)}},
			})
			talkOut(t, gateway.NewSplit(t, "", 1, settings).Device(ada), telephone)
		})
	}
}

func TestReadmeTrunkOfAccounts(t *testing.T) {
	t.Parallel()
	proxy, telephone := port.Free(t), port.Free(t)
	settings := trunkExample(t, "mode: register", "registrar.carrier.example:5060", address(proxy), `username: "15550001"`, `username: "+15550001"`)
	carrier := kamailio.Start(t, kamailio.Config{
		Port: proxy, Algorithm: "SHA-256", Accounts: []kamailio.Account{{User: ada, Password: "secret"}},
		Routes: []kamailio.Route{{Number: landline, Address: address(telephone)}},
	})
	d := gateway.NewSplit(t, "", 1, settings).Device(ada)
	carrier.AwaitLog(patient, "REGISTER of "+ada)
	talkOut(t, d, telephone)
	talkIn(t, d, carrier)
}

func TestReadmeTrunkOverTLS(t *testing.T) {
	t.Parallel()
	a := authority.New(t)
	own, ownKey := a.Issue("gateway", "gw.operator.example")
	certificate, key := a.Issue("carrier", "carrier.example")
	proxy, secure, telephone, sip := port.Free(t), port.Free(t), port.Free(t), port.Free(t)
	zone := nameserver.Start(t,
		fmt.Sprintf("srv-host=_sips._tcp.carrier.example,sbc.carrier.example,%d,10,100", secure), "host-record=sbc.carrier.example,127.0.0.1")
	settings := trunkExample(t, "network: tls", append(listenersExample("5061", sip),
		"advertise: gw.operator.example", "advertise: 127.0.0.1", "certificate: gw.pem", "certificate: "+own,
		"key: gw-key.pem", "key: "+ownKey, "carrier-ca.pem", a.CA)...)
	settings["sip.dns.servers"] = []string{zone}
	carrier := kamailio.Start(t, kamailio.Config{
		Port: proxy, TLS: &kamailio.TLS{Port: secure, Certificate: certificate, Key: key, CA: a.CA},
		Routes: []kamailio.Route{
			// As the example writes numbers.
			{Number: "00" + strings.TrimPrefix(landline, "+"), Address: address(telephone)},
			{Number: ada, Address: address(sip), Transport: "tls"},
		},
	})
	d := gateway.NewSplit(t, "", 1, settings).Device(ada)
	talkOut(t, d, telephone)
	talkIn(t, d, carrier)
}

func TestReadmeTrunkWithSRTP(t *testing.T) {
	t.Parallel()
	at := port.Free(t)
	settings := trunkExample(t, "srtp: required", "sbc1.carrier.example:5060", address(at))
	baresip.Listen(t, at, landline, baresip.Options{Encryption: "srtp-mand"})
	d := gateway.NewSplit(t, "", 1, settings).Device(ada)
	call := d.Call("tel:"+landline, browserHz)
	call.AwaitConnected(patient)
	call.AwaitTone(patient, browserHz)
	call.HangUp()
	call.AwaitStatus(patient, "Terminated")
}
