package sipp_test

import (
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/audio"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/kamailio"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/sipp"
)

const patient = 15 * time.Second

// Two telephones call each other through the proxy: each hangs up once, and each
// changes the session.
func TestTelephones(t *testing.T) {
	for name, act := range map[string]func(caller, callee *sipp.Telephone){
		"caller": func(caller, _ *sipp.Telephone) {
			caller.Do("hold")
			caller.AwaitMessage(patient, `a=recvonly`)
			caller.Do("resume")
			caller.AwaitMessage(patient, `(?s)a=recvonly.*a=sendrecv`)
			caller.Do("bye")
		},
		"callee": func(_, callee *sipp.Telephone) {
			callee.Do("hold")
			callee.AwaitMessage(patient, `a=recvonly`)
			callee.Do("bye")
		},
	} {
		t.Run(name, func(t *testing.T) {
			ear := audio.Listen(t, 600)
			callee := sipp.Listen(t, sipp.Config{Media: ear.Port()})
			proxy := kamailio.Start(t, kamailio.Config{Routes: []kamailio.Route{{Number: "+15559000", Address: callee.Address()}}})
			caller := sipp.Call(t, sipp.Config{Media: ear.Port(), To: "+15559000", From: "+15559001", Name: "Test", Via: proxy.Address()})
			act(caller, callee)
			caller.AwaitSuccess(patient)
			callee.AwaitSuccess(patient)
		})
	}
}
