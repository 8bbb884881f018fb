package session

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/srtp"
)

// Metrics of the media plane. They are made once for each node.
type Metrics struct {
	sessions  prometheus.Gauge
	streams   *prometheus.GaugeVec
	packets   *prometheus.CounterVec
	auth      prometheus.Counter
	dropped   *prometheus.CounterVec
	failed    *prometheus.CounterVec
	events    prometheus.Counter
	lostWatch prometheus.Counter
	stun      prometheus.Counter
	mos, loss *prometheus.HistogramVec

	webrtcIn, webrtcOut, rtpIn, rtpOut prometheus.Counter
	causes                             map[cause]prometheus.Counter
}

// cause is why a packet was dropped.
type cause string

const (
	dropUnknown   cause = "unknown_protocol"
	dropOversize  cause = "oversize"
	dropSTUN      cause = "stun_malformed"
	dropForeign   cause = "stun_foreign"
	dropIntegrity cause = "stun_integrity"
	dropPath      cause = "path_conflict"
	dropSource    cause = "foreign_source"
	dropDTLS      cause = "dtls_unexpected"
	dropDTLSEarly cause = "dtls_before_answer"
	dropNoKeys    cause = "no_keys"
	dropAuth      cause = "srtp_auth"
	dropReplay    cause = "srtp_replay"
	dropDuplicate cause = "duplicate"
	dropMalformed cause = "malformed"
	dropHeld      cause = "held"
	dropUnrouted  cause = "no_rule"
	dropWithheld  cause = "not_for_output"
	dropNoWay     cause = "output_not_ready"
	dropDoubtful  cause = "doubtful"
	dropSend      cause = "send_failed"
	dropRTCPOff   cause = "rtcp_off"
)

var causes = []cause{
	dropUnknown, dropOversize, dropSTUN, dropForeign, dropIntegrity, dropPath, dropSource, dropDTLS, dropDTLSEarly, dropNoKeys,
	dropAuth, dropReplay, dropDuplicate, dropMalformed, dropHeld, dropUnrouted, dropWithheld, dropNoWay, dropDoubtful, dropSend, dropRTCPOff,
}

// NewMetrics makes the metrics and registers them; a nil registerer leaves them
// unregistered.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "isthmus", Subsystem: "media", Name: name, Help: help}
	}
	m := &Metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "isthmus", Subsystem: "media", Name: "sessions",
			Help: "Sessions on this node."}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "isthmus", Subsystem: "media", Name: "streams",
			Help: "Streams by the engine that forwards what they receive, and the reason why it is not a faster one."}, []string{"engine", "reason"}),
		packets:   prometheus.NewCounterVec(opts("packets_total", "RTP packets by direction (in, out) and kind of leg (webrtc, rtp)."), []string{"direction", "leg"}),
		auth:      prometheus.NewCounter(opts("auth_failures_total", "SRTP and SRTCP packets that did not authenticate.")),
		dropped:   prometheus.NewCounterVec(opts("dropped_packets_total", "Packets dropped, by cause."), []string{"cause"}),
		failed:    prometheus.NewCounterVec(opts("leg_failures_total", "Legs that failed, by cause (dtls, srtp, consent)."), []string{"cause"}),
		events:    prometheus.NewCounter(opts("events_total", "Events published to watchers.")),
		lostWatch: prometheus.NewCounter(opts("watchers_lost_total", "Watchers that were disconnected because they were too slow.")),
		stun:      prometheus.NewCounter(opts("stun_requests_total", "Authenticated connectivity checks answered.")),
		causes:    map[cause]prometheus.Counter{},
	}
	histogram := func(name, help string, buckets ...float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "isthmus", Subsystem: "media", Name: name, Help: help, Buckets: buckets,
		}, []string{"direction", "leg"})
	}
	m.mos = histogram("stream_mos", "Estimated mean opinion score (ITU-T G.107) of streams that ended, by direction (in: measured here, out: reported by the peer) and kind of leg.",
		1.5, 2, 2.5, 3, 3.25, 3.5, 3.75, 4, 4.1, 4.2, 4.3, 4.4)
	m.loss = histogram("stream_loss_ratio", "Share of packets lost of streams that ended, by direction and kind of leg.",
		0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
	m.webrtcIn, m.webrtcOut = m.packets.WithLabelValues("in", "webrtc"), m.packets.WithLabelValues("out", "webrtc")
	m.rtpIn, m.rtpOut = m.packets.WithLabelValues("in", "rtp"), m.packets.WithLabelValues("out", "rtp")
	for _, c := range causes {
		m.causes[c] = m.dropped.WithLabelValues(string(c))
	}
	if registerer != nil {
		registerer.MustRegister(m.sessions, m.streams, m.packets, m.auth, m.dropped, m.failed, m.events, m.lostWatch, m.stun, m.mos, m.loss)
	}
	return m
}

// engineReason is what forwards a stream, and why.
type engineReason struct{ engine, reason string }

// maxReasons bounds the label values of one metric: an engine says in its own
// words why it refuses.
const maxReasons = 32

func (m *Metrics) engines(count map[engineReason]int) {
	m.streams.Reset()
	n := 0
	for k, streams := range count {
		if n++; n > maxReasons {
			k.reason = "other"
		}
		m.streams.WithLabelValues(k.engine, k.reason).Add(float64(streams))
	}
}

// offloaded makes the counting of packets that the engine forwards between legs.
func (m *Metrics) offloaded(from, to leg) func(packets uint64) {
	in, out := m.rtpIn, m.rtpOut
	if _, browser := from.(*webrtcLeg); browser {
		in = m.webrtcIn
	}
	if _, browser := to.(*webrtcLeg); browser {
		out = m.webrtcOut
	}
	return func(packets uint64) {
		in.Add(float64(packets))
		out.Add(float64(packets))
	}
}

// offloadedFailures counts packets that the engine dropped.
func (m *Metrics) offloadedFailures(auth, replays uint64) {
	m.auth.Add(float64(auth))
	m.causes[dropAuth].Add(float64(auth))
	m.causes[dropReplay].Add(float64(replays))
}

// protectFailure is why a packet could not be protected: an index was used
// before, or its header is not what it says.
func protectFailure(err error) cause {
	if errors.Is(err, srtp.ErrDuplicate) {
		return dropDuplicate
	}
	return dropMalformed
}

func (m *Metrics) drop(c cause) { m.causes[c].Inc() }

// WatcherLost counts a watcher that was disconnected for being too slow.
func (m *Metrics) WatcherLost() { m.lostWatch.Inc() }
