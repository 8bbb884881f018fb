package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

type metrics struct {
	calls    *prometheus.CounterVec
	sessions *prometheus.CounterVec
	events   *prometheus.CounterVec
	ends     *prometheus.CounterVec
	setup    *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer, g *Gateway) metrics {
	m := metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_calls_total", Help: "Calls started, by direction.",
		}, []string{"direction"}),
		sessions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_sessions_ended_total", Help: "Media sessions ended, by direction and final status.",
		}, []string{"direction", "status"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_events_recorded_total", Help: "Events recorded for delivery, by type.",
		}, []string{"type"}),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_registrations_ended_total", Help: "Registrations ended, by reason.",
		}, []string{"reason"}),
		setup: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "isthmus_call_setup_seconds",
			Help:    "Time from the start of a call to its answer.",
			Buckets: []float64{.1, .25, .5, 1, 2, 5, 10, 20, 40, 60},
		}, []string{"direction"}),
	}
	r.MustRegister(m.calls, m.sessions, m.events, m.ends, m.setup,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "isthmus_calls", Help: "Calls that this process holds now.",
		}, func() float64 {
			g.mu.Lock()
			defer g.mu.Unlock()
			return float64(len(g.calls))
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "isthmus_registrations", Help: "Registrations that are alive now, of all processes.",
		}, func() float64 {
			n, err := g.store.CountRegistrations(g.life, g.now())
			if err != nil {
				g.log.Warn("count registrations for the metrics", "error", err)
			}
			return float64(n)
		}))
	for _, s := range call.Statuses() {
		if s.Final() {
			m.sessions.WithLabelValues(string(call.Origination), string(s))
			m.sessions.WithLabelValues(string(call.Termination), string(s))
		}
	}
	return m
}
