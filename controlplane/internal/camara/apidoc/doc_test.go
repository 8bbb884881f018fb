package apidoc_test

import (
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara/apidoc"
)

func TestLoad(t *testing.T) {
	for _, o := range [][2]string{{"webrtc-registration", "r2.2"}, {"webrtc-call-handling", "r2.2"}, {"webrtc-events", "r2.2"}, {"webrtc-events", "main-2026-06"}} {
		if _, err := apidoc.Load(o[0], o[1]); err != nil {
			t.Error(err)
		}
	}
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
