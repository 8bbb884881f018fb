package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/authority"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/condition"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/device"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/farend"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/gateway"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/pgtest"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/program"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Remove()
	os.Exit(code)
}

// users of the gateway while it is killed.
const users = 6

func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func TestKilledControlPlane(t *testing.T) {
	for name, dsn := range map[string]func() string{
		"sqlite":   func() string { return "" },
		"postgres": func() string { return pgtest.Start(t) },
	} {
		t.Run(name, func(t *testing.T) { killOften(t, dsn()) })
	}
}

func killOften(t *testing.T, dsn string) {
	seed := setting(t, "ISTHMUS_CRASH_SEED", rand.Uint64())
	kills := int(setting(t, "ISTHMUS_CRASH_KILLS", 14))
	t.Logf("ISTHMUS_CRASH_SEED=%d", seed)
	random := func(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

	l := newLedger()
	ca := authority.New(t)
	s := newSink(t, ca.Pair, l, random(1))
	network := farend.Start(t)
	settings := farend.Trunk(network)
	for k, v := range map[string]any{
		"log.level":           "info",
		"calls.media_timeout": "0s", // nobody sends any
		"notify.ca_files":     []string{ca.CA},
		// The loopback address is no place for sinks otherwise.
		"notify.allow_origins": []string{s.URL},
		"notify.backoff_min":   "20ms",
		"notify.backoff_max":   "200ms",
		"shutdown.grace":       "1s",
	} {
		settings[k] = v
	}
	g := gateway.NewSplit(t, dsn, 1, settings)
	if err := network.SetGateway(g.SIP); err != nil {
		t.Fatal(err)
	}
	playing, stop := context.WithCancel(t.Context())
	defer stop()
	place := &site{ledger: l, sink: s, network: network, api: g.URL, stop: playing}
	var work sync.WaitGroup
	for i := range users {
		u := newUser(t, place, g, fmt.Sprintf("+1555%07d", i+1), random(uint64(10+i)))
		work.Go(u.play)
	}

	when := random(2)
	began := time.Now()
	for n := range kills {
		killAtRandom(t, g, l, when)
		g.Launch()
		if when.IntN(8) == 0 {
			// While it takes over what the last one left.
			wait(time.Duration(when.Int64N(int64(300 * time.Millisecond))))
			l.aboutToKill()
			g.Control.Kill()
			l.killed()
			g.Launch()
		}
		g.AwaitReady()
		t.Logf("kill %d of %d after %s", n+1, kills, time.Since(began).Round(time.Millisecond))
	}
	stop()
	work.Wait()
	t.Logf("the users are done after %s", time.Since(began).Round(time.Millisecond))
	if err := condition.Until(20*time.Second, l.missing); err != nil {
		t.Errorf("what is missing:\n%v", err)
	}
	t.Logf("everything is told after %s", time.Since(began).Round(time.Millisecond))
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.problems {
		t.Error(p)
	}
	t.Log(l.summary())
}

// killAtRandom lets the gateway work for a while, and kills it a moment after
// something has begun.
func killAtRandom(t *testing.T, g *gateway.Split, l *ledger, when *rand.Rand) {
	t.Helper()
	wait(time.Duration(100+when.IntN(700)) * time.Millisecond)
	select {
	case <-l.pulses: // an old one
	default:
	}
	select {
	case <-l.pulses:
	case <-time.After(time.Second):
	}
	wait(time.Duration(when.Int64N(int64(12 * time.Millisecond))))
	l.aboutToKill()
	g.Control.Kill()
	l.killed()
}

func wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

func newUser(t *testing.T, s *site, g *gateway.Split, number string, random *rand.Rand) *user {
	t.Helper()
	u := &user{site: s, t: t, random: random, number: number}
	u.device = device.New(t, device.Config{API: s.api, Token: g.Token(number), Number: number, Idle: true})
	if _, _, err := u.subscribe(true, 0); err != nil {
		t.Fatal(err)
	}
	u.register()
	return u
}
