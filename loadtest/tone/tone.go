// Package tone makes and measures the test signals of telephone calls: it
// generates continuous sine tones as 16-bit samples, companding them with the
// two laws of ITU-T G.711, and finds the strongest frequency in received audio
// with the Goertzel algorithm.
//
// It does no I/O and keeps no state outside the values it hands out, so that
// the simulated network, the load tester and tests can all measure with the
// same ruler. Amplitudes are linear 16-bit values, frequencies are hertz and
// rates are samples per second.
package tone

import "math"

// Rate is the sampling rate of G.711 audio, in samples per second.
const Rate = 8000

// DefaultAmplitude is the peak of a generated tone: about -9 dBm0, loud enough
// to measure and quiet enough not to hurt an ear.
const DefaultAmplitude = 8000

// Generator produces the sum of some sine tones without a phase jump between
// two reads. A Generator with no frequency produces silence. It is not safe
// for use by several goroutines at once.
type Generator struct {
	rate      float64
	amplitude float64
	hz        []float64
	phase     []float64
}

// NewGenerator returns a generator of the sum of the frequencies hz at the
// given sampling rate. The peak of the sum is amplitude; the tones share it
// evenly.
func NewGenerator(rate int, amplitude float64, hz ...float64) *Generator {
	return &Generator{
		rate:      float64(rate),
		amplitude: amplitude,
		hz:        append([]float64(nil), hz...),
		phase:     make([]float64, len(hz)),
	}
}

// Read fills dst with the next samples of the tone.
func (g *Generator) Read(dst []int16) {
	if len(g.hz) == 0 {
		clear(dst)
		return
	}
	share := g.amplitude / float64(len(g.hz))
	for i := range dst {
		sum := 0.0
		for k, hz := range g.hz {
			sum += share * math.Sin(g.phase[k])
			g.phase[k] += 2 * math.Pi * hz / g.rate
			if g.phase[k] > 2*math.Pi {
				g.phase[k] -= 2 * math.Pi
			}
		}
		dst[i] = int16(math.Round(max(-32768, min(32767, sum))))
	}
}

// dtmfKeys lists the keys of a telephone keypad by row and column, as ITU-T
// Q.23 arranges them.
const dtmfKeys = "123A456B789C*0#D"

// DTMF returns the low and the high frequency of a keypad digit ("0" to "9",
// "*", "#", "A" to "D") after ITU-T Q.23, and false when there is no such key.
func DTMF(digit byte) (low, high float64, ok bool) {
	rows := [4]float64{697, 770, 852, 941}
	columns := [4]float64{1209, 1336, 1477, 1633}
	for i := range len(dtmfKeys) {
		if dtmfKeys[i] == digit {
			return rows[i/4], columns[i%4], true
		}
	}
	return 0, 0, false
}
