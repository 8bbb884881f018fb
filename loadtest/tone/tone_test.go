package tone

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestDominantFindsTheToneThroughBothLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hz := rapid.Float64Range(120, 3600).Draw(t, "hz")
		law := Law(rapid.IntRange(0, 1).Draw(t, "law"))
		samples := make([]int16, rapid.IntRange(2000, 8000).Draw(t, "samples"))
		NewGenerator(Rate, DefaultAmplitude, hz).Read(samples)
		heard := law.AppendDecoded(nil, law.AppendEncoded(nil, samples))
		a := Dominant(heard, Rate)
		if math.Abs(a.Frequency-hz) > 1.5 || a.Purity < 0.97 || !a.Is(hz) {
			t.Fatalf("law %d: %.2f Hz measured as %v", law, hz, a)
		}
	})
}

func TestDominantOfSilenceNoiseAndMixtures(t *testing.T) {
	noise := make([]int16, 4000)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = int16(random.IntN(16000) - 8000)
	}
	two := make([]int16, 4000)
	NewGenerator(Rate, DefaultAmplitude, 697, 1209).Read(two)
	offset := make([]int16, 4000)
	for i := range offset {
		offset[i] = 5000
	}
	for _, c := range []struct {
		name    string
		samples []int16
		silent  bool
		purity  [2]float64
	}{
		{"nothing", nil, true, [2]float64{0, 0}},
		{"zeros", make([]int16, 800), true, [2]float64{0, 0}},
		{"constant offset", offset, true, [2]float64{0, 0}},
		{"white noise", noise, false, [2]float64{0, 0.05}},
		{"two tones", two, false, [2]float64{0.4, 0.6}},
	} {
		a := Dominant(c.samples, Rate)
		if a.Silent() != c.silent || a.Purity < c.purity[0] || a.Purity > c.purity[1] {
			t.Errorf("%s: %v, silent %v", c.name, a, a.Silent())
		}
	}
}

func TestGeneratorIsContinuous(t *testing.T) {
	whole := make([]int16, 1600)
	NewGenerator(Rate, DefaultAmplitude, 440).Read(whole)
	parts := make([]int16, 1600)
	g := NewGenerator(Rate, DefaultAmplitude, 440)
	for i := 0; i < len(parts); i += 160 {
		g.Read(parts[i : i+160])
	}
	for i := range whole {
		if whole[i] != parts[i] {
			t.Fatalf("sample %d is %d in one read and %d in ten", i, whole[i], parts[i])
		}
	}
}

// The reference values are those of the decision tables 1a and 2a of ITU-T
// G.711, in 16-bit scale.
func TestG711ReferenceValues(t *testing.T) {
	for _, c := range []struct {
		law    Law
		octet  byte
		sample int16
	}{
		{MuLaw, 0xff, 0}, {MuLaw, 0x80, 32124}, {MuLaw, 0x00, -32124}, {MuLaw, 0xf0, 120}, {MuLaw, 0xfe, 8},
		{ALaw, 0xd5, 8}, {ALaw, 0x55, -8}, {ALaw, 0xaa, 32256}, {ALaw, 0x2a, -32256}, {ALaw, 0xc5, 264},
	} {
		if got := c.law.Decode(c.octet); got != c.sample {
			t.Errorf("law %d: octet %#02x decodes to %d, want %d", c.law, c.octet, got, c.sample)
		}
	}
}

func TestG711RoundTrip(t *testing.T) {
	for _, law := range []Law{MuLaw, ALaw} {
		for o := range 256 {
			octet := byte(o)
			if law == MuLaw && octet == 0x7f {
				continue // negative zero, which encoding never produces
			}
			if got := law.Encode(law.Decode(octet)); got != octet {
				t.Errorf("law %d: octet %#02x comes back as %#02x", law, octet, got)
			}
		}
		for s := -32768; s <= 32767; s += 7 {
			back := int(law.Decode(law.Encode(int16(s))))
			if diff := math.Abs(float64(back - s)); diff > 8+math.Abs(float64(s))/16+float64(max(0, abs(s)-32124)) {
				t.Fatalf("law %d: %d comes back as %d", law, s, back)
			}
		}
	}
}

func abs(i int) int { return max(i, -i) }

func TestDTMF(t *testing.T) {
	low, high, ok := DTMF('8')
	if !ok || low != 852 || high != 1336 {
		t.Fatalf("key 8 is %v + %v, %v", low, high, ok)
	}
	if _, _, ok := DTMF('x'); ok {
		t.Fatal("x is not a key")
	}
	samples := make([]int16, 1600)
	NewGenerator(Rate, DefaultAmplitude, low, high).Read(samples)
	if a, b := Share(samples, Rate, low), Share(samples, Rate, high); a < 0.45 || b < 0.45 {
		t.Fatalf("the two tones of a key have shares %v and %v", a, b)
	}
}
