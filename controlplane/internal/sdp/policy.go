package sdp

import (
	"fmt"
	"slices"
	"strings"
)

// Policy says which voice codecs may pass through the gateway. Media is
// forwarded, never transcoded, so both sides must speak the codec.
type Policy struct {
	// Encodings are names in order of preference, without regard to case:
	// opus, G722, PCMU, PCMA. telephone-event always passes and is not named.
	Encodings []string
	// NoSilence keeps comfort noise (RFC 3389) out, so that both ends send on while
	// nobody speaks. Without it comfort noise passes where both ends have it.
	NoSilence bool
}

// relayed are the encodings that the media plane knows, in the form that the
// gateway offers; the payload type is the one preferred when the peer's own
// cannot be kept.
var relayed = []Codec{
	{111, "opus", 48000, 2, ""},
	{9, "G722", 8000, 0, ""},
	{0, "PCMU", 8000, 0, ""},
	{8, "PCMA", 8000, 0, ""},
}

// DefaultPolicy lets every known codec pass, best quality first.
func DefaultPolicy() Policy {
	p := Policy{}
	for _, c := range relayed {
		p.Encodings = append(p.Encodings, c.Encoding)
	}
	return p
}

// Validate refuses an empty list, unknown names and names given twice.
func (p Policy) Validate() error {
	if len(p.Encodings) == 0 {
		return fmt.Errorf("codec policy: no encoding is named; name at least one of %s", knownEncodings())
	}
	for i, name := range p.Encodings {
		if strings.EqualFold(name, telephoneEvent) {
			return fmt.Errorf("codec policy: %s always passes; remove it from the list", telephoneEvent)
		}
		if _, ok := relayedCodec(name); !ok {
			return fmt.Errorf("codec policy: encoding %q is not known; known are %s", name, knownEncodings())
		}
		if slices.ContainsFunc(p.Encodings[:i], func(s string) bool { return strings.EqualFold(s, name) }) {
			return fmt.Errorf("codec policy: encoding %q is named twice", name)
		}
	}
	return nil
}

func knownEncodings() string { return strings.Join(DefaultPolicy().Encodings, ", ") }

func relayedCodec(name string) (Codec, bool) {
	for _, c := range relayed {
		if strings.EqualFold(c.Encoding, name) {
			return c, true
		}
	}
	return Codec{}, false
}

// pick returns those of codecs that may pass, in the policy's order, each
// encoding once, in the peer's form.
func (p Policy) pick(codecs []Codec) []Codec {
	var out []Codec
	for _, name := range p.Encodings {
		want, ok := relayedCodec(name)
		if !ok {
			continue
		}
		if i := slices.IndexFunc(codecs, want.Same); i >= 0 {
			out = append(out, codecs[i])
		}
	}
	return out
}

// Relayed lists every voice codec that can pass, and telephone-event: what an
// offer made for an unknown far end can hold.
func Relayed() []Codec { return append(slices.Clone(relayed), eventNumbers...) }
