package notify

import "github.com/prometheus/client_golang/prometheus"

// Outcomes of a delivery, as the metric and the log name them.
const (
	delivered    = "delivered"
	retried      = "retried"
	dropped      = "dropped"
	gaveUp       = "gave_up"
	unauthorized = "unauthorized"
	gone         = "gone"
	tokenExpired = "token_expired"
	unrenderable = "unrenderable"
	putOff       = "put_off"
)

type metrics struct {
	deliveries *prometheus.CounterVec
	latency    prometheus.Histogram
	queue      prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_notify_deliveries_total",
			Help: "Attempts to deliver an event, by outcome.",
		}, []string{"outcome"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "isthmus_notify_latency_seconds",
			Help:    "Time from the recording of an event to its acceptance by the sink.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600},
		}),
		queue: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_notify_queue",
			Help: "Events that this process has leased and not finished.",
		}),
	}
	for _, o := range []string{delivered, retried, dropped, gaveUp, unauthorized, gone, tokenExpired, unrenderable, putOff} {
		m.deliveries.WithLabelValues(o)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.deliveries, m.latency, m.queue} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
