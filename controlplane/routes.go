package controlplane

import (
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara"
)

// Paths of what is not a CAMARA API.
const (
	relayPath  = "/relay"
	ladderPath = "/ladder"
)

// routes leads requests to the APIs, the relay and the ladder. It uses no
// ServeMux, which would redirect paths that the APIs have to answer themselves.
func (p *Plane) routes(apis *camara.API, fallback http.Handler) http.Handler {
	api := apis.Handler()
	notify := camara.CORS(p.config.API.Origins, http.StripPrefix(relayPath, p.relay.Handler()))
	var steps http.Handler
	if p.ladder != nil {
		steps = camara.CORS(p.config.API.Origins, http.StripPrefix(ladderPath, p.ladder.Handler()))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case strings.HasPrefix(path, relayPath+"/"):
			notify.ServeHTTP(w, r)
		case steps != nil && strings.HasPrefix(path, ladderPath+"/"):
			steps.ServeHTTP(w, r)
		case fallback == nil || apis.Owns(path):
			api.ServeHTTP(w, r)
		default:
			fallback.ServeHTTP(w, r)
		}
	})
}

// operations serves those who run the process.
func (p *Plane) operations(metrics *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := p.Ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte("ready\n"))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	if p.ladder != nil {
		mux.Handle(ladderPath+"/", http.StripPrefix(ladderPath, p.ladder.AdminHandler()))
	}
	return mux
}
