package session

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/forward"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/srtp"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

func (c *checker) streams(spec *mediav1.SessionSpec, legs map[string]bool, p *Plan) map[string]*mediav1.Stream {
	streams := map[string]*mediav1.Stream{}
	if len(spec.GetStreams()) > maxStreams {
		c.fail("streams", "%d streams, at most %d", len(spec.GetStreams()), maxStreams)
	}
	type legSSRC struct {
		leg  string
		ssrc uint32
	}
	ssrcs := map[legSSRC]bool{}
	for i, s := range spec.GetStreams() {
		field := fmt.Sprintf("streams[%d]", i)
		c.text(field+".id", s.GetId(), 1, 64)
		if streams[s.GetId()] != nil {
			c.fail(field+".id", "%q is used twice", s.GetId())
		}
		streams[s.GetId()] = s
		if !legs[s.GetLeg()] {
			c.fail(field+".leg", "there is no leg %q", s.GetLeg())
		}
		c.text(field+".cname", s.GetCname(), 0, 255)
		if key := (legSSRC{s.GetLeg(), s.GetSsrc()}); s.GetSsrc() != 0 {
			if ssrcs[key] {
				c.fail(field+".ssrc", "%d is used by another stream of the leg", s.GetSsrc())
			}
			ssrcs[key] = true
		}
		cfg := forward.StreamConfig{ID: s.GetId(), Leg: s.GetLeg(), SSRC: s.GetSsrc(), CName: s.GetCname()}
		switch s.GetDirection() {
		case mediav1.Direction_DIRECTION_SENDRECV:
			cfg.Direction = forward.SendRecv
		case mediav1.Direction_DIRECTION_SENDONLY:
			cfg.Direction = forward.SendOnly
		case mediav1.Direction_DIRECTION_RECVONLY:
			cfg.Direction = forward.RecvOnly
		case mediav1.Direction_DIRECTION_INACTIVE:
			cfg.Direction = forward.Inactive
		default:
			c.fail(field+".direction", "must be SENDRECV, SENDONLY, RECVONLY or INACTIVE")
		}
		seen := map[uint32]bool{}
		for j, f := range s.GetFormats() {
			at := fmt.Sprintf("%s.formats[%d]", field, j)
			switch pt := f.GetPayloadType(); {
			case pt > 127:
				c.fail(at+".payload_type", "%d, at most 127", pt)
			case seen[pt]:
				c.fail(at+".payload_type", "%d is used twice", pt)
			}
			seen[f.GetPayloadType()] = true
			c.text(at+".encoding", f.GetEncoding(), 1, 64)
			if f.GetClockRate() < 1000 || f.GetClockRate() > 1_000_000 {
				c.fail(at+".clock_rate", "%d Hz, must be 1000 to 1000000", f.GetClockRate())
			}
			if f.GetChannels() > 255 {
				c.fail(at+".channels", "%d, at most 255", f.GetChannels())
			}
			cfg.Formats = append(cfg.Formats, forward.Format{
				PayloadType: uint8(f.GetPayloadType()), Encoding: f.GetEncoding(),
				ClockRate: f.GetClockRate(), Channels: uint8(f.GetChannels()),
			})
		}
		cfg.Tone = c.tone(field+".tone", s)
		p.table.Streams = append(p.table.Streams, cfg)
	}
	return streams
}

func (c *checker) rules(spec *mediav1.SessionSpec, streams map[string]*mediav1.Stream, p *Plan) {
	inputs, fed := map[string]bool{}, map[string]bool{}
	for i, r := range spec.GetRules() {
		field := fmt.Sprintf("rules[%d]", i)
		in := streams[r.GetInput()]
		if in == nil {
			c.fail(field+".input", "there is no stream %q", r.GetInput())
		}
		if inputs[r.GetInput()] {
			c.fail(field+".input", "%q has another rule; put its outputs together", r.GetInput())
		}
		inputs[r.GetInput()] = true
		rule := forward.Rule{Input: r.GetInput()}
		for j, o := range r.GetOutputs() {
			at := fmt.Sprintf("%s.outputs[%d]", field, j)
			out := streams[o.GetStream()]
			if out == nil {
				c.fail(at+".stream", "there is no stream %q", o.GetStream())
			}
			if fed[o.GetStream()] {
				c.fail(at+".stream", "%q is the output of another rule, and the node does not mix", o.GetStream())
			}
			fed[o.GetStream()] = true
			output := forward.Output{Stream: o.GetStream()}
			mapped := map[uint32]bool{}
			for k, m := range o.GetPayloads() {
				c.mapping(fmt.Sprintf("%s.payloads[%d]", at, k), m, in, out, mapped)
				output.Payloads = append(output.Payloads, forward.Payload{From: uint8(m.GetFrom()), To: uint8(m.GetTo())})
			}
			rule.Outputs = append(rule.Outputs, output)
		}
		p.table.Rules = append(p.table.Rules, rule)
	}
}

func (c *checker) mapping(field string, m *mediav1.PayloadMapping, in, out *mediav1.Stream, mapped map[uint32]bool) {
	from, to := format(in, m.GetFrom()), format(out, m.GetTo())
	switch {
	case from == nil:
		c.fail(field+".from", "the input has no format with payload type %d", m.GetFrom())
		return
	case to == nil:
		c.fail(field+".to", "the output has no format with payload type %d", m.GetTo())
		return
	case mapped[m.GetFrom()]:
		c.fail(field+".from", "%d is mapped twice", m.GetFrom())
	}
	mapped[m.GetFrom()] = true
	event := strings.EqualFold(from.GetEncoding(), "telephone-event")
	switch {
	case !strings.EqualFold(from.GetEncoding(), to.GetEncoding()):
		c.fail(field+".to", "%s cannot become %s: the node does not transcode", from.GetEncoding(), to.GetEncoding())
	case !event && from.GetClockRate() != to.GetClockRate():
		c.fail(field+".to", "%s at %d Hz cannot become %d Hz", from.GetEncoding(), from.GetClockRate(), to.GetClockRate())
	}
}

func format(s *mediav1.Stream, payload uint32) *mediav1.Format {
	for _, f := range s.GetFormats() {
		if f.GetPayloadType() == payload {
			return f
		}
	}
	return nil
}

// restored checks that the state of an association says where each stream that
// sends on it has to go on: an index must not be guessed.
func (c *checker) restored(p *Plan) {
	for _, leg := range p.legs {
		field, secure := "", (*securePlan)(nil)
		switch {
		case leg.webrtc != nil && leg.webrtc.secure != nil:
			field, secure = leg.field+".webrtc", leg.webrtc.secure
		case leg.rtp != nil && leg.rtp.secure != nil && len(leg.rtp.secure.sources) > 0:
			field, secure = leg.field+".rtp", leg.rtp.secure
		default:
			continue
		}
		for i, s := range p.table.Streams {
			if s.Leg != leg.id {
				continue
			}
			if s.SSRC == 0 {
				continue // a fresh one is safe
			}
			if !slices.ContainsFunc(secure.sources, func(src srtp.Source) bool { return src.Outgoing && src.SSRC == s.SSRC }) {
				c.fail(field+".srtp.sources", "no outgoing source %d, with which streams[%d] sends; set its ssrc to 0 if its state is lost", s.SSRC, i)
			}
		}
	}
}
