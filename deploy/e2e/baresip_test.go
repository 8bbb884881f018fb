package e2e

import (
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/baresip"
)

// A telephone that knows neither UPDATE nor session timers nor reliable
// responses, and sends back what it hears.
func TestBaresip(t *testing.T) {
	t.Parallel()
	c := newCarrier(t, nil)
	phone := baresip.Listen(t, c.landline, landline)
	d := c.gateway.Device(ada)
	call := d.Call("tel:"+landline, browserHz)
	call.AwaitConnected(patient)
	call.AwaitTone(patient, browserHz)
	call.Hold()
	call.AwaitSilence(patient)
	// This version does not start its microphone again; the session is as before.
	call.Resume()
	call.HangUp()
	call.AwaitStatus(patient, "Terminated")
	phone.AwaitOutput(patient, "session closed")
}
