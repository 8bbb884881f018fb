package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// server is a registrar that answers after 100 ms by a script.
type server struct {
	mu     sync.Mutex
	start  time.Time
	log    []string
	times  []time.Duration
	answer func(r Request) Answer
	ids    int
}

func (s *server) Register(r Request, result func(Answer)) {
	s.mu.Lock()
	s.log = append(s.log, fmt.Sprintf("%s %d", r.Number, r.Expires))
	s.times = append(s.times, time.Since(s.start))
	a := s.answer(r)
	s.mu.Unlock()
	time.AfterFunc(100*time.Millisecond, func() { result(a) })
}
func (s *server) Forget(string) {}
func (s *server) Watch(_ *trunk.Trunk, n call.Number) {
	s.mu.Lock()
	s.log = append(s.log, "watch "+string(n))
	s.mu.Unlock()
}
func (s *server) Unwatch(_ *trunk.Trunk, n call.Number) {
	s.mu.Lock()
	s.log = append(s.log, "unwatch "+string(n))
	s.mu.Unlock()
}
func (s *server) NewID(call.Number) (string, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids++
	return fmt.Sprint("id", s.ids), "tag"
}
func (s *server) After(d time.Duration, f func()) func() {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}
func (s *server) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := strings.Join(s.log, ", ")
	s.log = nil
	return out
}

// sent is when each request came.
func (s *server) sent() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Duration(nil), s.times...)
}

func (s *server) script(f func(Request) Answer) {
	s.mu.Lock()
	s.answer = f
	s.mu.Unlock()
}

func granted(seconds uint32) func(Request) Answer {
	return func(r Request) Answer {
		return Answer{Signal: call.Signal{Code: 200}, Expires: min(seconds, r.Expires)}
	}
}

func refused(code int) func(Request) Answer {
	return func(Request) Answer { return Answer{Signal: call.Signal{Code: code, Phrase: "No"}} }
}

type bundle struct {
	s     *server
	r     *Registrar
	trunk *trunk.Trunk
	mu    sync.Mutex
	lost  []string
}

func setup() *bundle {
	b := &bundle{s: &server{start: time.Now(), answer: granted(3600)}}
	b.trunk = trunk.NewSet([]trunk.Config{trunk.Config{Name: "t", Mode: trunk.ModeRegister, Registrar: "h:1", Expires: time.Hour}.Complete()}).All()[0]
	source := rand.New(rand.NewPCG(3, 4))
	b.r = New(Config{Transport: b.s, Retry: 4 * time.Second, Rand: func(limit int) int { b.mu.Lock(); defer b.mu.Unlock(); return source.IntN(limit) }, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		Lost: func(a gateway.Account, text string) {
			b.mu.Lock()
			b.lost = append(b.lost, a.Tenant+" "+a.RegistrationID+" "+text)
			b.mu.Unlock()
		}})
	return b
}

func (b *bundle) lose() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.lost)
}

func (b *bundle) first() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lost, "; ")
}

const number = call.Number("+15550100")

func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		for _, id := range []string{"a", "b"} {
			if err := b.r.Register(t.Context(), id, b.trunk, number); err != nil {
				t.Fatal(err)
			}
		}
		if got := b.s.take(); got != "+15550100 3600" {
			t.Errorf("two devices: %s", got)
		}
		time.Sleep(24 * time.Hour)
		last := time.Duration(0)
		for i, at := range b.s.sent()[1:] {
			if gap := at - last; gap < 1800*time.Second || gap > 3242*time.Second {
				t.Errorf("refresh %d after %v", i, gap)
			}
			last = at
		}
		if n := len(b.s.sent()); n < 27 || n > 49 {
			t.Errorf("%d refreshes in a day", n)
		}
		b.s.take()
		_ = b.r.Deregister(t.Context(), "a")
		if got := b.s.take(); got != "" || b.r.Count() != 1 {
			t.Errorf("the first of two left: %s", got)
		}
		_ = b.r.Deregister(t.Context(), "b")
		if got := b.s.take(); got != "+15550100 0" || b.r.Count() != 0 {
			t.Errorf("the last left: %s", got)
		}
		time.Sleep(3 * time.Hour)
		if got := b.s.take(); got != "" || b.lose() != 0 {
			t.Errorf("afterwards: %s", got)
		}
	})
}

func TestRefusedAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		b.s.script(refused(403))
		var rejected *gateway.RejectedError
		if err := b.r.Register(t.Context(), "a", b.trunk, number); !errors.As(err, &rejected) || rejected.Code != 403 {
			t.Errorf("error %v", err)
		}
		b.s.script(func(Request) Answer { return Answer{Err: errors.New("silence"), Timeout: true} })
		if err := b.r.Register(t.Context(), "a", b.trunk, number); !errors.Is(err, gateway.ErrNetworkTimeout) {
			t.Errorf("error %v", err)
		}
		b.s.script(func(Request) Answer { return Answer{Err: errors.New("refused")} })
		if err := b.r.Register(t.Context(), "a", b.trunk, number); !errors.Is(err, gateway.ErrNetworkDown) {
			t.Errorf("error %v", err)
		}
		time.Sleep(time.Hour)
		if b.lose() != 0 || b.r.Count() != 0 || len(b.s.sent()) != 3 {
			t.Errorf("a refused registration went on: %s", b.s.take())
		}
	})
}

func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		if err := b.r.Register(t.Context(), "a", b.trunk, number); err != nil {
			t.Fatal(err)
		}
		// A short outage is survived.
		b.s.script(func(Request) Answer { return Answer{Err: errors.New("silence"), Timeout: true} })
		time.Sleep(time.Hour - 5*time.Minute)
		if b.lose() != 0 || len(b.s.sent()) < 3 {
			t.Errorf("%d tries, %d lost", len(b.s.sent()), b.lose())
		}
		b.s.script(granted(3600))
		time.Sleep(time.Hour)
		if b.r.Count() != 1 || b.lose() != 0 {
			t.Error("it did not come back")
		}
		// A long one is not; it is told once.
		b.s.script(refused(503))
		time.Sleep(2 * time.Hour)
		if b.r.Count() != 0 || b.lose() != 1 || !strings.HasPrefix(b.first(), "default a ") {
			t.Errorf("lost: %s", b.first())
		}
		tries := len(b.s.sent())
		time.Sleep(10 * time.Hour)
		if len(b.s.sent()) != tries {
			t.Error("a lost binding is still tried")
		}
	})
}

// Whatever devices do to one number, in the end the registrar's picture is theirs.
func TestDevicesComeAndGo(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			b := setup()
			r := rand.New(rand.NewPCG(seed, 1))
			var wg sync.WaitGroup
			for range 12 {
				id := string(rune('a' + r.IntN(3)))
				if r.IntN(2) == 0 {
					wg.Go(func() { _ = b.r.Register(context.Background(), id, b.trunk, number) })
				} else {
					wg.Go(func() { _ = b.r.Deregister(context.Background(), id) })
				}
				time.Sleep(time.Duration(r.IntN(150)) * time.Millisecond)
			}
			wg.Wait()
			time.Sleep(time.Second)
			b.r.mu.Lock()
			users := len(b.r.byID)
			b.r.mu.Unlock()
			all := strings.Split(b.s.take(), ", ")
			last := all[len(all)-1]
			if want := map[bool]string{true: "+15550100 3600", false: "+15550100 0"}[users > 0]; last != want {
				t.Errorf("seed %d: %d devices, but last sent was %s", seed, users, last)
			}
			if got := b.r.Count(); (got == 1) != (users > 0) {
				t.Errorf("seed %d: %d bindings for %d devices", seed, got, users)
			}
			b.r.Close()
		})
	}
}
