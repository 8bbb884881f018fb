package notify

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// roundTripper answers without a network, so that time can be the test's.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, header ...string) (*http.Response, error) {
	r := &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{}, Body: http.NoBody}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r, nil
}

// attempts runs a notifier against a transport for some time and answers when
// the requests were made.
func attempts(t *testing.T, c Config, span time.Duration, transport roundTripper) (at []time.Duration, left int) {
	o := newOutbox()
	start := time.Now()
	n := run(t, c, o, func(d *Deps) {
		d.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			at = append(at, time.Since(start))
			return transport(r)
		})
	})
	o.add(sub("s", "https://sink.example/"), "1")
	time.Sleep(span)
	synctest.Wait()
	flush(t, n)
	return at, o.left()
}

func TestBackoffAndGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Default()
		at, left := attempts(t, c, 20*time.Minute, func(*http.Request) (*http.Response, error) {
			return nil, errors.New("connection refused")
		})
		if left != 0 {
			t.Error("not given up")
		}
		last := at[len(at)-1]
		if last > c.RetryFor || last < c.RetryFor-c.BackoffMax {
			t.Errorf("the last attempt was after %v, want it near the end of %v", last, c.RetryFor)
		}
		for i := 1; i < len(at); i++ {
			most := min(c.BackoffMin<<(i-1), c.BackoffMax)
			if gap := at[i] - at[i-1]; gap > most+shortPoll || gap < most/2 {
				t.Errorf("attempt %d came after %v, want %v to %v", i+1, gap, most/2, most)
			}
		}
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		at, left := attempts(t, Default(), 5*time.Minute, func(*http.Request) (*http.Response, error) {
			if first {
				first = false
				return answer(http.StatusTooManyRequests, "Retry-After", "90")
			}
			return answer(http.StatusNoContent)
		})
		if len(at) != 2 || left != 0 || at[1] < 90*time.Second || at[1] > 91*time.Second {
			t.Errorf("attempts at %v, %d left, want the second after 90s", at, left)
		}
	})
}

// A sink that asks for more patience than there is gets no other attempt.
func TestRetryAfterTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at, left := attempts(t, Default(), time.Hour, func(*http.Request) (*http.Response, error) {
			return answer(http.StatusServiceUnavailable, "Retry-After", "3000")
		})
		if len(at) != 1 || left != 0 {
			t.Errorf("attempts at %v, %d left", at, left)
		}
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Default()
		at, left := attempts(t, c, time.Minute, func(r *http.Request) (*http.Response, error) {
			if _, limited := r.Context().Deadline(); !limited {
				return nil, errors.New("no deadline")
			}
			if r.Context().Err() == nil && !strings.Contains(r.URL.Path, "x") {
				<-r.Context().Done()
			}
			return nil, r.Context().Err()
		})
		if len(at) < 2 || at[1] < c.Timeout || at[1] > c.Timeout+time.Second || left != 1 {
			t.Errorf("attempts at %v, %d left", at, left)
		}
	})
}

// A request leaves at once, without waiting for a poll.
func TestNoPollingDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at, _ := attempts(t, Default(), time.Second, func(*http.Request) (*http.Response, error) {
			return answer(http.StatusNoContent)
		})
		if len(at) != 1 || at[0] != 0 {
			t.Errorf("attempts at %v, want one at once", at)
		}
	})
}
