package tone

import (
	"fmt"
	"math"
)

// The band in which the strongest frequency is looked for: telephone audio
// with a little room at the lower end.
const (
	lowestHz  = 80
	highestHz = 3900
)

// Analysis says what a stretch of audio mostly consists of.
type Analysis struct {
	// Frequency of the strongest component, in hertz; 0 for silence.
	Frequency float64
	// Purity is the share of the signal's power that lies at Frequency, from
	// 0 to 1. An undisturbed tone through G.711 is above 0.98.
	Purity float64
	// RMS is the root mean square of the samples without their mean.
	RMS float64
	// Samples is how many samples were measured.
	Samples int
}

// String gives the analysis in a form for test failures and logs.
func (a Analysis) String() string {
	return fmt.Sprintf("%.1f Hz, purity %.3f, rms %.0f over %d samples", a.Frequency, a.Purity, a.RMS, a.Samples)
}

// Silent reports whether there was nothing to hear: no samples, or none that
// rises above the idle noise of G.711.
func (a Analysis) Silent() bool { return a.RMS < 32 }

// Is reports whether the audio is the one tone of frequency hz: within 5 Hz,
// and with at least 90 % of the power there.
func (a Analysis) Is(hz float64) bool {
	return !a.Silent() && math.Abs(a.Frequency-hz) <= 5 && a.Purity >= 0.9
}

// Share returns the share, from 0 to 1, of the power of samples that lies at
// the frequency hz. It is the Goertzel algorithm with the mean removed; the
// resolution is rate/len(samples) hertz.
func Share(samples []int16, rate int, hz float64) float64 {
	mean, square := moments(samples)
	if square == 0 {
		return 0
	}
	return min(1, power(samples, mean, rate, hz)/square)
}

// Dominant finds the strongest frequency in samples. A quarter of a second is
// enough to tell keypad tones apart; more than four seconds only cost time.
func Dominant(samples []int16, rate int) Analysis {
	mean, square := moments(samples)
	a := Analysis{RMS: math.Sqrt(square), Samples: len(samples)}
	if a.Silent() {
		return a
	}
	// The main lobe of the Goertzel filter is two bins wide, so steps of half
	// a bin cannot pass over a peak. Short stretches first: coarse steps over
	// a part of the signal find the lobe, fine ones over all of it the top.
	probe := samples[:min(len(samples), rate/4)]
	step := float64(rate) / float64(len(probe)) / 2
	top := strongest(probe, mean, rate, lowestHz, min(highestHz, float64(rate)/2), step)
	for wide := step; wide > 0.25; wide /= 4 {
		window := samples[:min(len(samples), int(float64(rate)/wide)+1)]
		top = strongest(window, mean, rate, top-wide, top+wide, wide/4)
	}
	a.Frequency = top
	a.Purity = min(1, power(samples, mean, rate, top)/square)
	return a
}

// strongest returns the frequency with the most power among from, from+step,
// … to.
func strongest(samples []int16, mean float64, rate int, from, to, step float64) float64 {
	best, bestPower := from, -1.0
	for hz := from; hz <= to; hz += step {
		if p := power(samples, mean, rate, hz); p > bestPower {
			best, bestPower = hz, p
		}
	}
	return best
}

// power returns the mean power of the component at hz: half the square of its
// amplitude, directly comparable with the mean square of the samples.
func power(samples []int16, mean float64, rate int, hz float64) float64 {
	coefficient := 2 * math.Cos(2*math.Pi*hz/float64(rate))
	s1, s2 := 0.0, 0.0
	for _, x := range samples {
		s1, s2 = float64(x)-mean+coefficient*s1-s2, s1
	}
	n := float64(len(samples))
	return 2 * (s1*s1 + s2*s2 - coefficient*s1*s2) / (n * n)
}

func moments(samples []int16) (mean, square float64) {
	if len(samples) == 0 {
		return 0, 0
	}
	for _, x := range samples {
		mean += float64(x)
	}
	mean /= float64(len(samples))
	for _, x := range samples {
		square += (float64(x) - mean) * (float64(x) - mean)
	}
	return mean, square / float64(len(samples))
}
