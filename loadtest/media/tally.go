package media

// Counters of a stream, or of all of them.
type Counters struct {
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"`
	// Lost packets never came. Duplicates came again, and are not in Received.
	Lost       uint64 `json:"lost"`
	Duplicates uint64 `json:"duplicates"`
	// Reordered packets came after one that was sent later.
	Reordered uint64 `json:"reordered"`
	// AuthFailures are SRTP packets that did not authenticate, Corrupt those that
	// did (or plain ones) and do not say what was sent, Foreign those of no stream.
	AuthFailures uint64 `json:"auth_failures"`
	Corrupt      uint64 `json:"corrupt"`
	Foreign      uint64 `json:"foreign"`
}

func (c *Counters) add(o Counters) {
	c.Sent += o.Sent
	c.Received += o.Received
	c.Lost += o.Lost
	c.Duplicates += o.Duplicates
	c.Reordered += o.Reordered
	c.AuthFailures += o.AuthFailures
	c.Corrupt += o.Corrupt
	c.Foreign += o.Foreign
}

// span is how many packets of a stream a tally looks back to tell duplicates.
const span = 4096

// tally counts what arrives of a stream by the packets' own numbers, so that
// whatever the target does to sequence numbers hides nothing.
type tally struct {
	seen    [span / 64]uint64
	highest uint64
	any     bool

	received, duplicates, reordered uint64
}

// take counts packet n and says whether it is the first with its number.
func (t *tally) take(n uint64) bool {
	switch {
	case !t.any:
		t.any, t.highest = true, n
	case n > t.highest:
		if n-t.highest >= span {
			clear(t.seen[:])
		} else {
			for i := t.highest + 1; i < n; i++ {
				t.seen[i%span/64] &^= 1 << (i % 64)
			}
		}
		t.highest = n
		t.seen[n%span/64] &^= 1 << (n % 64)
	case t.highest-n >= span:
		// Too old to know whether it was here before.
		t.duplicates++
		return false
	case t.seen[n%span/64]&(1<<(n%64)) != 0:
		t.duplicates++
		return false
	default:
		t.reordered++
	}
	t.seen[n%span/64] |= 1 << (n % 64)
	t.received++
	return true
}
