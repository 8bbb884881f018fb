package auth

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	validations    *prometheus.CounterVec
	fetches        *prometheus.CounterVec
	introspections *prometheus.CounterVec
}

func newMetrics() metrics {
	m := metrics{
		validations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_token_validations_total", Help: "Access tokens judged, by result: ok, missing, invalid, unavailable.",
		}, []string{"result"}),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_token_key_fetches_total", Help: "Readings of JWK sets, by issuer and result: ok, error.",
		}, []string{"issuer", "result"}),
		introspections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_token_introspections_total", Help: "Introspection requests sent, by issuer and result: active, inactive, error.",
		}, []string{"issuer", "result"}),
	}
	for _, result := range []string{"ok", "missing", "invalid", "unavailable"} {
		m.validations.WithLabelValues(result)
	}
	return m
}

func (m metrics) register(r prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{m.validations, m.fetches, m.introspections} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
