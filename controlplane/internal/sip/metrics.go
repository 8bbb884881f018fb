package sip

import (
	"strconv"

	"github.com/emiago/sipgo/sip"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	messages      *prometheus.CounterVec
	rejected      *prometheus.CounterVec
	registrations prometheus.GaugeFunc
	granted       prometheus.CounterFunc
	dialogs       prometheus.GaugeFunc
	targetUp      *prometheus.GaugeVec
	limited       *prometheus.CounterVec
	streams       prometheus.GaugeFunc
	trunkCalls    *trunkCalls
	expiry        prometheus.GaugeFunc
	blocked       prometheus.GaugeFunc
}

// trunkCalls collects the number of calls of every trunk there is now.
type trunkCalls struct {
	n    *Network
	desc *prometheus.Desc
}

func (c *trunkCalls) Describe(out chan<- *prometheus.Desc) { out <- c.desc }

func (c *trunkCalls) Collect(out chan<- prometheus.Metric) {
	for _, t := range c.n.set().All() {
		out <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(t.Calls()), t.Name)
	}
}

func newMetrics(n *Network) *metrics {
	return &metrics{
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_sip_messages_total", Help: "SIP messages by direction and method or status code.",
		}, []string{"direction", "method_or_code"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_sip_rejected_total", Help: "SIP messages that were not accepted, by reason.",
		}, []string{"reason"}),
		registrations: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "isthmus_sip_registrations", Help: "Numbers registered with a registrar.",
		}, func() float64 { return float64(n.registrar.Count()) }),
		granted: prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "isthmus_sip_registers_total", Help: "REGISTER requests that a registrar has granted.",
		}, func() float64 { return float64(n.registrar.Granted()) }),
		dialogs: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "isthmus_sip_dialogs", Help: "Calls that this process holds, in set-up or confirmed.",
		}, func() float64 { return float64(n.Calls()) }),
		targetUp: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_sip_target_up", Help: "Whether a trunk's target answers OPTIONS.",
		}, []string{"trunk", "target"}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_sip_trunk_limited_total", Help: "Calls that a trunk had no room for, by direction and limit.",
		}, []string{"trunk", "direction", "limit"}),
		streams: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "isthmus_sip_connections", Help: "TCP and TLS connections of SIP.",
		}, func() float64 { return float64(n.tap.Streams()) }),
		trunkCalls: &trunkCalls{n, prometheus.NewDesc("isthmus_sip_trunk_calls", "Calls of this process by trunk.", []string{"trunk"}, nil)},
		expiry: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "isthmus_sip_certificate_not_after_seconds", Help: "When the certificate of the TLS listeners ends, in seconds since 1970; 0 without one.",
		}, n.certificateEnd),
		blocked: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "isthmus_sip_blocked_sources", Help: "Sources of which nothing is read because they flooded.",
		}, func() float64 { return float64(n.guard.Blocked(n.now())) }),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.messages, m.rejected, m.registrations, m.granted, m.dialogs, m.targetUp, m.limited, m.streams, m.trunkCalls, m.expiry, m.blocked} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// label of a message. Methods that nobody defined share one, as anybody can
// invent them.
func label(m sip.Message) string {
	switch m := m.(type) {
	case *sip.Request:
		switch m.Method {
		case sip.INVITE, sip.ACK, sip.BYE, sip.CANCEL, sip.OPTIONS, sip.REGISTER, sip.PRACK, sip.UPDATE,
			sip.INFO, sip.SUBSCRIBE, sip.NOTIFY, sip.REFER, sip.MESSAGE, sip.PUBLISH:
			return string(m.Method)
		}
		return "OTHER"
	case *sip.Response:
		return strconv.Itoa(m.StatusCode)
	}
	return "OTHER"
}
