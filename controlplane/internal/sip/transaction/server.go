package transaction

import (
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/tap"
)

// Server is a server transaction.
type Server struct {
	layer    *Layer
	key      string
	back     tap.Route
	invite   bool
	reliable bool
	// Request that opened it.
	Request *sip.Request

	mu       sync.Mutex
	state    state
	last     *sip.Response
	interval time.Duration
	retry    *time.Timer // G
	life     *time.Timer // H, I, J, L
}

// Back is the route of the responses.
func (s *Server) Back() tap.Route { return s.back }

// Respond sends a response. A 2xx to an INVITE may be sent again and again: its
// retransmission is the user's matter. Anything after a final response is ignored
// otherwise.
func (s *Server) Respond(res *sip.Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := res.StatusCode
	switch {
	case s.state == accepted && code >= 200 && code < 300:
	case s.state != trying && s.state != proceeding:
		return
	case code < 200:
		s.state = proceeding
	case s.invite && code < 300:
		s.state = accepted
		s.life = time.AfterFunc(s.layer.timers.Long(), s.end)
	case s.invite:
		s.state = completed
		if !s.reliable {
			s.interval = s.layer.timers.T1
			s.retry = time.AfterFunc(s.interval, s.retransmit)
		}
		s.life = time.AfterFunc(s.layer.timers.Long(), s.end)
	default:
		s.state = completed
		linger := s.layer.timers.Long()
		if s.reliable {
			linger = 0
		}
		s.life = time.AfterFunc(linger, s.end)
	}
	s.last = res
	s.layer.sender.Send(res, s.back, nil)
}

func (s *Server) retransmit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != completed {
		return
	}
	s.layer.sender.Send(s.last, s.back, nil)
	s.interval = min(2*s.interval, s.layer.timers.T2)
	s.retry = time.AfterFunc(s.interval, s.retransmit)
}

// repeat answers a retransmitted request with the last response.
func (s *Server) repeat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil && (s.state == proceeding || s.state == completed) {
		s.layer.sender.Send(s.last, s.back, nil)
	}
}

// ack takes an ACK and reports whether it belongs to a 2xx.
func (s *Server) ack() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case accepted:
		return true
	case completed:
		s.stopTimers()
		s.state = confirmed
		linger := s.layer.timers.T4
		if s.reliable {
			linger = 0
		}
		s.life = time.AfterFunc(linger, s.end)
	}
	return false
}

func (s *Server) end() {
	s.mu.Lock()
	s.stopTimers()
	s.state = gone
	s.mu.Unlock()
	s.layer.mu.Lock()
	if s.layer.servers[s.key] == s {
		delete(s.layer.servers, s.key)
	}
	s.layer.mu.Unlock()
}

func (s *Server) stopTimers() {
	for _, t := range []*time.Timer{s.retry, s.life} {
		if t != nil {
			t.Stop()
		}
	}
}
