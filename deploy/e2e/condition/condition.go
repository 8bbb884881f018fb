// Package condition waits, within a bound, for something that a process outside
// the test makes true. It is the only way in which end-to-end tests wait.
package condition

import (
	"testing"
	"time"
)

// Step is the time between two looks.
const Step = 20 * time.Millisecond

// Await looks until check answers nil. The test fails with the last error when
// that takes longer than within.
func Await(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	if err := Until(within, check); err != nil {
		t.Fatalf("waited %s for %s: %v", within, what, err)
	}
}

// Until is Await for those who deal with the error themselves.
func Until(within time.Duration, check func() error) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	ticker := time.NewTicker(Step)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			return err
		}
	}
}
