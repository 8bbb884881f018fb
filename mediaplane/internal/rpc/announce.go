package rpc

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"connectrpc.com/connect"

	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
	"github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1/mediav1connect"
)

const (
	announceTimeout  = 5 * time.Second
	defaultInterval  = 5 * time.Second
	maxInterval      = 5 * time.Minute
	firstBackoff     = 500 * time.Millisecond
	longestBackoff   = 15 * time.Second
	backoffIncrement = 2
)

// Announcer tells control planes that the node is there, each in its own time:
// one that is down holds up none of the others.
type Announcer struct {
	// Clients by the URL of the control plane.
	Clients map[string]mediav1connect.NodeRegistryClient
	Node    func() *mediav1.Node
	Logger  *slog.Logger
}

// Run announces until ctx ends.
func (a *Announcer) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for url, client := range a.Clients {
		wg.Go(func() { a.loop(ctx, url, client) })
	}
	wg.Wait()
	return nil
}

func (a *Announcer) loop(ctx context.Context, url string, client mediav1connect.NodeRegistryClient) {
	log := a.Logger.With("control_plane", url)
	backoff := firstBackoff
	known := false
	for {
		interval, err := a.once(ctx, client)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if known || backoff == firstBackoff {
				log.Warn("announce failed; trying again", "error", err)
			}
			known = false
			interval = backoff/2 + rand.N(backoff)
			backoff = min(backoff*backoffIncrement, longestBackoff)
		default:
			if !known {
				log.Info("announced", "interval", interval)
			}
			known, backoff = true, firstBackoff
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

func (a *Announcer) once(ctx context.Context, client mediav1connect.NodeRegistryClient) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	resp, err := client.Announce(ctx, connect.NewRequest(&mediav1.AnnounceRequest{Node: a.Node()}))
	if err != nil {
		return 0, err
	}
	interval := resp.Msg.GetInterval().AsDuration()
	if interval <= 0 {
		interval = defaultInterval
	}
	return min(interval, maxInterval), nil
}
