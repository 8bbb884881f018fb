package reginfo

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

const example = `<?xml version="1.0"?>
<reginfo xmlns="urn:ietf:params:xml:ns:reginfo" xmlns:gr="urn:ietf:params:xml:ns:gruuinfo" version="3" state="partial">
  <registration aor="sip:+15550100@ims.example.com" id="a7" state="active">
    <contact id="76" state="active" event="shortened" expires="60" q="0.8">
      <uri> sip:+15550100@192.0.2.1:5060 </uri>
      <gr:pub-gruu uri="sip:x"/>
      <unknown-param name="+sip.instance">"x"</unknown-param>
    </contact>
    <contact id="77" state="terminated" event="probation" retry-after="30" duration-registered="1"><uri>sip:b@c</uri></contact>
  </registration>
  <registration aor="tel:+15550100" id="a8" state="terminated"/>
  <more/>
</reginfo>`

func TestParse(t *testing.T) {
	got, err := Parse([]byte(example))
	want := Info{Version: 3, Registrations: []Registration{
		{AOR: "sip:+15550100@ims.example.com", State: "active", Contacts: []Contact{
			{URI: "sip:+15550100@192.0.2.1:5060", State: "active", Event: "shortened", Expires: time.Minute},
			{URI: "sip:b@c", State: "terminated", Event: "probation", RetryAfter: 30 * time.Second},
		}},
		{AOR: "tel:+15550100", State: "terminated"},
	}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := Parse([]byte(`<reginfo version="0" state="full"/>`)); err != nil || !got.Full || len(got.Registrations) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestUnreadable(t *testing.T) {
	for _, text := range []string{
		"", "no xml", "<presence/>", `<reginfo state="full"/>`, `<reginfo version="-1" state="full"/>`, `<reginfo version="1" state="whole"/>`,
		`<reginfo version="1" state="full"><registration>` + strings.Repeat("<contact/>", maxContacts+1) + `</registration></reginfo>`,
	} {
		if got, err := Parse([]byte(text)); err == nil {
			t.Errorf("%.60q is read as %+v", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Fuzz(func(t *testing.T, text []byte) {
		i, err := Parse(text)
		if err != nil && !reflect.DeepEqual(i, Info{}) {
			t.Errorf("an error and %+v", i)
		}
	})
}
