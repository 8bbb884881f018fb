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
	dialogs       prometheus.GaugeFunc
	targetUp      *prometheus.GaugeVec
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
		dialogs: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "isthmus_sip_dialogs", Help: "Calls that this process holds, in set-up or confirmed.",
		}, func() float64 { return float64(n.Calls()) }),
		targetUp: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_sip_target_up", Help: "Whether a trunk's target answers OPTIONS.",
		}, []string{"trunk", "target"}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.messages, m.rejected, m.registrations, m.dialogs, m.targetUp} {
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
