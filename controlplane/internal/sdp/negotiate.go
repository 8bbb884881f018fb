package sdp

import "slices"

// eventNumbers are the payload types that the gateway prefers for
// telephone-event when it has to choose: the customary one at 8000 Hz, and one
// that no peer in the field uses for anything else at 48000 Hz.
var eventNumbers = []Codec{
	{101, telephoneEvent, 8000, 0, allDigits},
	{110, telephoneEvent, 48000, 0, allDigits},
}

// OfferToCore returns what an INVITE offers for a browser that offered these
// codecs: the voice codecs that the policy lets pass, in its order, then
// telephone-event at 8000 Hz, which every core network knows, and at 48000 Hz
// when Opus is offered (RFC 4733 2.1 wants the clock of the voice codec). The
// browser's payload types are kept where they can be. The result is empty when
// no voice codec may pass.
func OfferToCore(browser []Codec, p Policy) []Codec {
	voice := p.pick(browser)
	if len(voice) == 0 {
		return nil
	}
	return number(slices.Concat(voice, p.noise(browser, voice), events(browser, eventRates(voice))))
}

// noise is the comfort noise of a peer, if it may pass and belongs to a voice codec.
func (p Policy) noise(peer, voice []Codec) []Codec {
	if p.NoSilence || !slices.ContainsFunc(voice, Codec.silent) {
		return nil
	}
	for _, c := range peer {
		if c.IsComfortNoise() && c.ClockRate == 8000 {
			return []Codec{c}
		}
	}
	return nil
}

// OfferToBrowser returns what the browser is offered for an incoming call: only
// what the core network's side can take and the policy lets pass, in the
// policy's order. telephone-event is offered when the core network's side
// offers it at any clock rate: at 8000 Hz, and at 48000 Hz when Opus is offered.
// The result is empty when no voice codec may pass.
func OfferToBrowser(core []Codec, p Policy) []Codec {
	voice := p.pick(core)
	if len(voice) == 0 {
		return nil
	}
	out := append(voice, p.noise(core, voice)...)
	if !slices.ContainsFunc(core, Codec.IsTelephoneEvent) {
		return number(out)
	}
	return number(append(out, events(core, eventRates(voice))...))
}

// eventRates returns the clock rates at which telephone-event is needed beside
// these voice codecs: 8000 Hz, which every peer knows, and their own.
func eventRates(voice []Codec) []uint32 {
	rates := []uint32{8000}
	for _, c := range voice {
		if !slices.Contains(rates, c.ClockRate) {
			rates = append(rates, c.ClockRate)
		}
	}
	return rates
}

// events returns one telephone-event codec per clock rate, in the peer's form
// where it has one.
func events(peer []Codec, rates []uint32) []Codec {
	var out []Codec
	for _, rate := range rates {
		c := Codec{0, telephoneEvent, rate, 0, allDigits}
		if i := slices.IndexFunc(peer, c.Same); i >= 0 {
			c.PayloadType = peer[i].PayloadType
			c.Fmtp = normalEvents(peer[i].Fmtp)
		}
		out = append(out, c)
	}
	return out
}

// number gives every codec a payload type of its own: the one that it has if
// that may be used and is free, else the static or customary one, else the
// lowest free dynamic one. Codecs that can keep theirs go first.
func number(codecs []Codec) []Codec {
	var taken [128]bool
	settled := make([]bool, len(codecs))
	settle := func(i int, pt uint8) {
		codecs[i].PayloadType, taken[pt], settled[i] = pt, true, true
	}
	for i, c := range codecs {
		if c.keepsNumber() && !taken[c.PayloadType] {
			settle(i, c.PayloadType)
		}
	}
	for i, c := range codecs {
		if settled[i] {
			continue
		}
		for _, known := range slices.Concat(relayed, eventNumbers, []Codec{static[13]}) {
			if known.Same(c) && !taken[known.PayloadType] {
				settle(i, known.PayloadType)
			}
		}
		for pt := uint8(firstDynamic); !settled[i]; pt++ {
			if !taken[pt] {
				settle(i, pt)
			}
		}
	}
	return codecs
}

// Negotiate returns the codecs in force after an answer: those of the answer
// that were offered, in the answer's order, the voice codecs first. They carry the answer's payload
// types and parameters, which are those to send to the answering side with
// (RFC 3264 7); where the answering side chose other numbers than the offer,
// it sends with the offer's, which AnswerFor(offered, result) tells. Without a
// voice codec the error is ErrNoCommonCodec.
func Negotiate(offered, answered []Codec) ([]Codec, error) {
	var out []Codec
	for _, a := range answered {
		if slices.ContainsFunc(offered, a.Same) && !slices.ContainsFunc(out, a.Same) {
			if a.IsTelephoneEvent() {
				a.Fmtp = normalEvents(a.Fmtp)
			}
			out = append(out, a)
		}
	}
	if !hasVoice(out) {
		return nil, ErrNoCommonCodec
	}
	return voiceFirst(out), nil
}

// voiceFirst puts the voice codecs before comfort noise and events, and keeps their
// order otherwise: the first of a list is the one to speak in.
func voiceFirst(codecs []Codec) []Codec {
	rank := func(c Codec) int {
		switch {
		case c.isVoice():
			return 0
		case c.IsComfortNoise():
			return 1
		}
		return 2
	}
	slices.SortStableFunc(codecs, func(a, b Codec) int { return rank(a) - rank(b) })
	return codecs
}

// AnswerFor carries an answer from one leg to the other: it returns the codecs
// of offer, with the offer's payload types, that are the same as those accepted
// on the other leg, in the order and with the parameters of accepted.
//
// telephone-event is answered when the other leg accepted it at any clock rate,
// because the media plane translates between rates. The answer has the rates
// of the other leg, those of the voice codecs, and 8000 Hz, on which some peers
// send whatever was agreed, as far as they were offered; else the first offered.
//
// The result is empty when no voice codec is common: answer the offer with 488.
func AnswerFor(offer, accepted []Codec) []Codec {
	var out []Codec
	for _, a := range accepted {
		if a.IsTelephoneEvent() {
			continue
		}
		if i := slices.IndexFunc(offer, a.Same); i >= 0 && !slices.ContainsFunc(out, a.Same) {
			c := offer[i]
			c.Fmtp = a.Fmtp
			out = append(out, c)
		}
	}
	if !hasVoice(out) {
		return nil
	}
	out = voiceFirst(out)
	first := slices.IndexFunc(accepted, Codec.IsTelephoneEvent)
	if first < 0 {
		return out
	}
	voice := len(out)
	for _, c := range offer {
		if !c.IsTelephoneEvent() || slices.ContainsFunc(out, c.Same) {
			continue
		}
		match := slices.IndexFunc(accepted, c.Same)
		if match < 0 && !slices.Contains(eventRates(out[:voice]), c.ClockRate) {
			continue
		}
		c.Fmtp = normalEvents(accepted[max(match, first)].Fmtp)
		out = append(out, c)
	}
	if len(out) == voice {
		if i := slices.IndexFunc(offer, Codec.IsTelephoneEvent); i >= 0 {
			c := offer[i]
			c.Fmtp = normalEvents(accepted[first].Fmtp)
			out = append(out, c)
		}
	}
	return out
}

func hasVoice(codecs []Codec) bool {
	return slices.ContainsFunc(codecs, func(c Codec) bool {
		_, ok := relayedCodec(c.Encoding)
		return ok
	})
}

// OneVoice keeps the first voice codec and the comfort noise and telephone-event
// that go with it: the answer that leaves the peer no choice to change codecs in the middle
// of a call. telephone-event at 8000 Hz stays beside that of the voice codec's
// clock rate, because some peers know no other; if it is there at neither rate,
// all of it stays.
func OneVoice(codecs []Codec) []Codec {
	voice := slices.IndexFunc(codecs, Codec.isVoice)
	if voice < 0 {
		return codecs
	}
	fits := func(c Codec) bool {
		return c.IsTelephoneEvent() && (c.ClockRate == codecs[voice].ClockRate || c.ClockRate == 8000)
	}
	if !slices.ContainsFunc(codecs, fits) {
		fits = Codec.IsTelephoneEvent
	}
	out := []Codec{codecs[voice]}
	for _, c := range codecs {
		if fits(c) || c.IsComfortNoise() && out[0].silent() {
			out = append(out, c)
		}
	}
	return out
}

// Mapping renames the payload type From of packets from one leg to To on the
// other.
type Mapping struct{ From, To uint8 }

// Mappings returns how payload types are renamed from one leg to the other.
// from are the codecs with the numbers that the receiving leg's peer sends
// with, to are those that the sending leg's peer wants to receive. A codec
// without a counterpart is not mapped: its packets are not forwarded.
// telephone-event goes to the same clock rate where there is one, else to the
// rate of the voice codec in force on the far side, else to the first: the
// media plane scales durations.
func Mappings(from, to []Codec) []Mapping {
	var out []Mapping
	for _, c := range from {
		i := slices.IndexFunc(to, c.Same)
		if i < 0 && c.IsTelephoneEvent() {
			i = slices.IndexFunc(to, func(t Codec) bool {
				return t.IsTelephoneEvent() && len(to) > 0 && t.ClockRate == to[0].ClockRate
			})
			if i < 0 {
				i = slices.IndexFunc(to, Codec.IsTelephoneEvent)
			}
		}
		if i >= 0 {
			out = append(out, Mapping{From: c.PayloadType, To: to[i].PayloadType})
		}
	}
	return out
}
