package forward

import (
	"math"
	"strings"
	"time"
)

// Quality is how a stream sounds in one direction, as far as packets tell.
type Quality struct {
	// MOS is the mean opinion score for conversation that the E-model estimates,
	// 1 to 4.5 (ITU-T G.107, Annex B); 0 while nothing is known.
	MOS float64
	// Rating is the E-model's factor R, 0 to 93.2.
	Rating float64
	// Loss of packets, 0 to 1.
	Loss   float64
	Jitter time.Duration
}

// impairment of a codec: the equipment impairment factor Ie and the packet-loss
// robustness factor Bpl, for random loss.
type impairment struct{ ie, bpl float64 }

// impairments by encoding name. G.711 with packet loss concealment is that of
// ITU-T G.113 Appendix I. G.113 has nothing for the others on the narrowband
// scale: they are rated like G.711, and Opus, which conceals better and can carry
// forward error correction, as less sensitive to loss.
var impairments = map[string]impairment{
	"PCMU": {0, 25.1},
	"PCMA": {0, 25.1},
	"G722": {0, 25.1},
	"OPUS": {0, 30},
}

const (
	// basicRating is R with all other parameters of G.107 at their defaults.
	basicRating = 93.2
	// codingDelay is for packetization and playout beside the network: one packet,
	// and what a receiver holds back besides twice the jitter.
	codingDelay = 40 * time.Millisecond
)

// Rate estimates the quality of voice by the E-model (ITU-T G.107): the impairments
// by delay (7.4, without echo) and by the codec with random packet loss (7.5).
func Rate(encoding string, loss float64, jitter, roundTrip time.Duration) Quality {
	q := Quality{Loss: loss, Jitter: jitter}
	c, known := impairments[strings.ToUpper(encoding)]
	if !known {
		return q
	}
	delay := roundTrip/2 + 2*jitter + codingDelay
	percent := 100 * min(max(loss, 0), 1)
	equipment := c.ie + (95-c.ie)*percent/(percent+c.bpl)
	q.Rating = min(max(basicRating-delayImpairment(delay)-equipment, 0), basicRating)
	q.MOS = opinion(q.Rating)
	return q
}

// delayImpairment is Idd of an absolute one-way delay (G.107 equation 7-27).
func delayImpairment(delay time.Duration) float64 {
	ms := float64(delay) / float64(time.Millisecond)
	if ms <= 100 {
		return 0
	}
	x := math.Log2(ms / 100)
	return 25 * (math.Pow(1+math.Pow(x, 6), 1.0/6) - 3*math.Pow(1+math.Pow(x/3, 6), 1.0/6) + 2)
}

// opinion is the mean opinion score of a rating (G.107 Annex B).
func opinion(r float64) float64 {
	if r <= 0 {
		return 1
	}
	return max(1, 1+0.035*r+r*(r-60)*(100-r)*7e-6)
}

// peerReport is what a peer has told of the stream that the node sends to it.
type peerReport struct {
	known bool
	// lost so far and expected so far by the peer's count.
	lost, expected int64
	jitter         time.Duration
}

// quality of what arrives, as the node sees it, and of what is sent, as the peer
// has reported it.
func (s *Stream) quality() (received, sent Quality) {
	trip := s.counters.RoundTrip
	if s.receiving != nil && s.in.active {
		expected := s.in.total()
		received = Rate(s.receiving.Encoding, share(s.in.totalLost(), expected), s.in.jitterDuration(), trip)
	}
	if p := s.reports.peer; p.known && s.sending != nil {
		sent = Rate(s.sending.Encoding, share(p.lost, p.expected), p.jitter, trip)
	}
	return received, sent
}

func share(lost, expected int64) float64 {
	if lost <= 0 || expected <= 0 {
		return 0
	}
	return min(1, float64(lost)/float64(expected))
}
