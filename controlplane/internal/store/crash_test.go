package store_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store"
)

// The environment by which the test program runs as the process to be killed.
const (
	crashDSN          = "ISTHMUS_TEST_CRASH_DSN"
	crashKey          = "ISTHMUS_TEST_CRASH_KEY"
	crashSubscription = "ISTHMUS_TEST_CRASH_SUBSCRIPTION"
)

// record moves a subscription's count and enqueues an event that tells of it, and
// says each time that it is done, until it is killed.
func record(dsn, key, subscription string) {
	ctx := context.Background()
	c := store.Default()
	c.DSN, c.SealingKey = dsn, key
	s, err := store.Open(ctx, c, discard)
	for err == nil {
		var n int
		err = s.Update(ctx, func(tx gateway.Tx) error {
			sub, err := tx.Subscription(ctx, anna.Tenant, subscription)
			if err != nil {
				return err
			}
			sub.Sent++
			n = sub.Sent
			if err := tx.UpdateSubscription(ctx, sub); err != nil {
				return err
			}
			return tx.Enqueue(ctx, subscription, call.Event{ID: strconv.Itoa(n)})
		})
		if err == nil {
			fmt.Println(n)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// A process is killed at any moment, several times over: nothing that it had
// acknowledged is missing, and no event tells of a change that is not there.
func TestKilledProcess(t *testing.T) {
	onDisk(t, func(t *testing.T, s *bundle) {
		ctx := t.Context()
		sub := s.subscription(t, nil)
		acknowledged := 0
		for range 5 {
			if last := killRecorder(t, s, sub.ID); last > 0 {
				acknowledged = last
			}
		}
		got, err := s.Subscription(ctx, anna.Tenant, sub.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got.Sent < acknowledged || acknowledged == 0 {
			t.Errorf("the count is %d, acknowledged were %d", got.Sent, acknowledged)
		}
		for n := 1; n <= got.Sent; n++ {
			d := claimOne(t, s, time.Minute, strconv.Itoa(n))
			if err := s.Done(ctx, d.ID); err != nil {
				t.Fatal(err)
			}
		}
		if more := claim(t, s, time.Minute, 10); len(more) != 0 {
			t.Errorf("%v tell of changes that are not there", eventIDs(more))
		}
	})
}

// killRecorder answers the last number that the process said before its end.
func killRecorder(t *testing.T, s *bundle, subscription string) (last int) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), program)
	child.Env = append(os.Environ(), crashDSN+"="+s.config.DSN, crashKey+"="+s.config.SealingKey, crashSubscription+"="+subscription)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for kill := 3 + rand.N(15); lines.Scan(); kill-- {
		if last, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(err)
		}
		if kill == 0 {
			// Some way into the next one.
			time.AfterFunc(rand.N(4*time.Millisecond), func() { child.Process.Kill() })
		}
	}
	if err := child.Wait(); err == nil {
		t.Fatal("the process ended by itself")
	}
	return last
}
