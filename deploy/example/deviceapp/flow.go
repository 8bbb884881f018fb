package main

import (
	"context"
	"errors"
	"log"
)

// outgoing makes a call, with a pause in it.
func outgoing(ctx context.Context, l *line, to string) error {
	c, err := l.originate(ctx, to)
	if err != nil {
		return err
	}
	log.Print("connected")
	err = c.hears(ctx)
	if err == nil {
		err = c.put(ctx, session{Status: "Hold"})
	}
	if err == nil {
		err = c.put(ctx, session{Status: "Resume"})
	}
	if err == nil {
		err = c.hears(ctx)
	}
	return errors.Join(err, c.hangUp(ctx))
}

// incoming has the simulated network of the demonstration call this line, and
// answers.
func incoming(ctx context.Context, l *line) error {
	err := l.api.do(ctx, "POST", "/network/call", map[string]any{"to": l.registration.Info.Number}, nil)
	if err != nil {
		return err
	}
	c, err := l.invited(ctx)
	if err != nil {
		return err
	}
	log.Print("answered")
	return errors.Join(c.hears(ctx), c.hangUp(ctx))
}
