// Command deviceapp is what an app on a subscriber's device does, in Go: it opens
// a channel at the Notification Relay, subscribes, registers, makes a call, takes
// one and says goodbye. It acts with the subscriber's access token.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/google/uuid"
)

func main() {
	base := flag.String("api", "http://localhost:8080", "where the APIs are")
	token := flag.String("token", "", "access token of the subscriber")
	to := flag.String("to", "tel:+15550100", "whom to call")
	flag.Parse()
	if *token == "" {
		fmt.Fprintln(os.Stderr, "deviceapp: -token is missing; isthmus token --phone +15550001 prints one")
		os.Exit(2)
	}
	// A token is renewed where it came from: this is the place to do so.
	a := &api{base: *base, token: func(context.Context) (string, error) { return *token, nil }}
	if err := run(context.Background(), a, *to); err != nil {
		log.Fatal("deviceapp: ", err)
	}
	log.Print("done")
}

func run(ctx context.Context, a *api, to string) (err error) {
	// An installation of an app makes its device id once and keeps it.
	device := uuid.NewString()
	undo := func(what string, f func() error) {
		if failed := f(); failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", what, failed))
		}
	}

	channel, err := a.openChannel(ctx)
	if err != nil {
		return err
	}
	events := make(chan event, 100)
	r := &reader{api: a, url: channel.StreamURL, known: map[string]bool{}, events: events}
	over := make(chan error, 1)
	go func() { over <- r.follow(ctx) }()
	defer undo("close the channel", func() error {
		err := a.do(ctx, "DELETE", "/relay/channels/"+channel.ID, nil, nil)
		if err != nil {
			return err
		}
		return <-over
	})

	subscription, err := a.subscribe(ctx, device, channel.SinkURL, channel.Credential)
	if err != nil {
		return err
	}
	log.Print("subscribed")
	defer undo("unsubscribe", func() error { return a.do(ctx, "DELETE", subscriptions+"/"+subscription, nil, nil) })

	registered, err := a.register(ctx, device, "")
	if err != nil {
		return err
	}
	log.Printf("registered as %s until %s", registered.Info.Number, registered.Expires.Format(time.RFC3339))
	defer undo("de-register", func() error { return a.do(ctx, "DELETE", registrations+"/"+registered.ID, nil, nil) })

	l := &line{api: a, events: events, registration: registered}
	if err := outgoing(ctx, l, to); err != nil {
		return fmt.Errorf("outgoing call: %w", err)
	}
	if err := refresh(ctx, a, channel, subscription, registered); err != nil {
		return fmt.Errorf("refresh: %w", err)
	}
	if err := incoming(ctx, l); err != nil {
		return fmt.Errorf("incoming call: %w", err)
	}
	return nil
}

// refresh is to be done long before anything expires.
func refresh(ctx context.Context, a *api, ch channel, subscription string, r registration) error {
	r, err := a.reregister(ctx, r.ID)
	if err != nil {
		return err
	}
	c, err := a.renewCredential(ctx, ch)
	if err != nil {
		return err
	}
	if err := a.resubscribe(ctx, subscription, c); err != nil {
		return err
	}
	log.Printf("refreshed: the registration until %s, the sink credential until %s",
		r.Expires.Format(time.RFC3339), c.Expires.Format(time.RFC3339))
	return nil
}
