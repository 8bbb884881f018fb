package kamailio_test

import (
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/kamailio"
)

func TestStart(t *testing.T) {
	for _, algorithm := range []string{"MD5", "SHA-256"} {
		t.Run(algorithm, func(t *testing.T) {
			p := kamailio.Start(t, kamailio.Config{
				Algorithm: algorithm,
				Routes:    []kamailio.Route{{Number: "+15550100", Address: "127.0.0.1:9"}},
				Accounts:  []kamailio.Account{{User: "+15550001", Password: "secret"}},
			})
			if !p.Running() {
				t.Fatal("kamailio has ended")
			}
		})
	}
}
