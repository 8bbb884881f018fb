package apidoc_test

import (
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara/apidoc"
)

func TestLoad(t *testing.T) {
	for _, api := range []string{"webrtc-registration", "webrtc-call-handling", "webrtc-events-subscriptions"} {
		d, err := apidoc.Load(api, "r3.1")
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range d.Operations() {
			t.Log(o.Method, o.Path, o.ID, o.Scopes)
		}
	}
}
