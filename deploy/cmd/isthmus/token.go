package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/devoauth"
)

// tokenCmd makes a token with the signing key of the demo OAuth server, which
// lies in the data directory.
type tokenCmd struct {
	Phone  string        `placeholder:"+NUMBER" help:"Subscriber in E.164 form; without it the token is the application's own (client credentials)."`
	Client string        `default:"demo-app" help:"Client id of the application."`
	Scope  []string      `placeholder:"SCOPE" help:"Scopes; without any, all that the application may have."`
	TTL    time.Duration `default:"1h" help:"How long the token lives."`
}

func (t tokenCmd) Run(c *cli) error {
	config, err := c.load()
	if err != nil {
		return err
	}
	if !config.Parts.OAuth {
		return errors.New("parts.oauth is off: there is no demo OAuth server to make tokens; ask your own")
	}
	if err := config.prepare(); err != nil {
		return err
	}
	server, err := devoauth.New(config.OAuth)
	if err != nil {
		return err
	}
	token, err := server.Token(context.Background(), devoauth.TokenRequest{
		ClientID: t.Client, Number: t.Phone, Scopes: t.Scope, TTL: t.TTL,
	})
	if err != nil {
		return err
	}
	fmt.Println(token.AccessToken)
	return nil
}
