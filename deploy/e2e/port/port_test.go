package port_test

import (
	"testing"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
)

// A test's ports are its own, and many tests after each other do not use up what
// there is.
func TestRange(t *testing.T) {
	for range 500 {
		t.Run("", func(t *testing.T) {
			seen := map[int]bool{}
			for _, n := range []int{1, 80, 2, 1, 80, 3} {
				from := port.Range(t, n)
				if from%2 != 0 {
					t.Errorf("%d is odd", from)
				}
				for p := from; p < from+n; p++ {
					if seen[p] {
						t.Fatalf("%d was handed out twice", p)
					}
					seen[p] = true
				}
			}
		})
	}
}
