// Command appserver is what an application server does, in Go: it gets events at
// a webhook of its own, registers a number that it serves, makes a call, takes one
// and says goodbye. It acts with an access token of the application itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// config of the application.
type config struct {
	number, to                string
	listen, sink, certificate string
	key                       string
}

func main() {
	var c config
	t := &tokens{}
	base := flag.String("api", "http://localhost:8080", "where the APIs are")
	flag.StringVar(&t.url, "token-url", "http://localhost:8080/oauth/token", "token endpoint of the OAuth server")
	flag.StringVar(&t.client, "client", "demo-app", "client id of the application")
	flag.StringVar(&t.secret, "secret", "demo-app-secret", "client secret of the application")
	flag.StringVar(&c.number, "number", "+15550003", "number that the application serves")
	flag.StringVar(&c.to, "to", "tel:+15550100", "whom to call")
	flag.StringVar(&c.listen, "listen", "localhost:8444", "host and port of the webhook")
	flag.StringVar(&c.sink, "sink", "https://localhost:8444/events", "the webhook as the gateway reaches it")
	flag.StringVar(&c.certificate, "certificate", ".isthmus/server.pem", "certificate chain of the webhook")
	flag.StringVar(&c.key, "key", ".isthmus/server-key.pem", "key of the certificate")
	flag.Parse()
	if err := run(context.Background(), c, &api{base: *base, token: t.get}); err != nil {
		log.Fatal("appserver: ", err)
	}
	log.Print("done")
}

func run(ctx context.Context, conf config, a *api) (err error) {
	// The application chooses a device id for each line that it serves.
	device := uuid.NewString()
	undo := func(what string, f func() error) {
		if failed := f(); failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", what, failed))
		}
	}

	events := make(chan event, 100)
	hook := &webhook{events: events, known: map[string]bool{}}
	listener, err := net.Listen("tcp", conf.listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: hook}
	over := make(chan error, 1)
	go func() { over <- server.ServeTLS(listener, conf.certificate, conf.key) }()
	defer undo("end the webhook", func() error {
		err := server.Close()
		if why := <-over; !errors.Is(why, http.ErrServerClosed) {
			return why
		}
		return err
	})

	subscription, err := a.subscribe(ctx, device, conf.sink, hook.newCredential())
	if err != nil {
		return err
	}
	log.Print("subscribed")
	l := &line{api: a, events: events}
	defer undo("unsubscribe", func() error {
		if err := a.do(ctx, "DELETE", subscriptions+"/"+subscription, nil, nil); err != nil {
			return err
		}
		// The last event. The gateway would try it again at a webhook that is gone.
		_, err := l.next(ctx, func(e event) bool { return e.kind() == "subscription-ended" })
		return err
	})

	registered, err := a.register(ctx, device, conf.number)
	if err != nil {
		return err
	}
	log.Printf("registered as %s until %s", registered.Info.Number, registered.Expires.Format(time.RFC3339))
	defer undo("de-register", func() error { return a.do(ctx, "DELETE", registrations+"/"+registered.ID, nil, nil) })

	l.registration = registered
	if err := outgoing(ctx, l, conf.to); err != nil {
		return fmt.Errorf("outgoing call: %w", err)
	}
	if err := refresh(ctx, a, hook, subscription, registered); err != nil {
		return fmt.Errorf("refresh: %w", err)
	}
	if err := incoming(ctx, l); err != nil {
		return fmt.Errorf("incoming call: %w", err)
	}
	return nil
}

// refresh is to be done long before anything expires.
func refresh(ctx context.Context, a *api, hook *webhook, subscription string, r registration) error {
	r, err := a.reregister(ctx, r.ID)
	if err != nil {
		return err
	}
	c := hook.newCredential()
	if err := a.resubscribe(ctx, subscription, c); err != nil {
		return err
	}
	log.Printf("refreshed: the registration until %s, the sink credential until %s",
		r.Expires.Format(time.RFC3339), c.Expires.Format(time.RFC3339))
	return nil
}
