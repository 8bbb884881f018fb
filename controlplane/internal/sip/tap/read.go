package tap

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/validate"
)

func (s *stream) read() {
	in := Inbound{Listener: s.route.Listener, Network: s.route.Network, Remote: s.route.Addr, Names: s.peer(), stream: s}
	var buf []byte
	var begun time.Time // when the message that is not complete began
	chunk := make([]byte, 16<<10)
	for {
		_ = s.conn.SetReadDeadline(s.deadline(begun))
		n, err := s.conn.Read(chunk)
		if err != nil {
			s.close(fmt.Errorf("%s was closed: %w", s, err))
			return
		}
		if !s.t.admit(in.Remote.Addr()) {
			s.close(errors.New("the source is blocked"))
			return
		}
		s.mu.Lock()
		s.written = nil
		s.mu.Unlock()
		if len(buf) == 0 {
			begun = time.Now()
		}
		buf = append(buf, chunk[:n]...)
		for {
			buf = s.keepAlive(buf)
			if len(buf) == 0 {
				break
			}
			length, problem := validate.Frame(buf)
			if problem != nil {
				// Without a boundary the rest cannot be read.
				s.t.refuse(buf, problem, in)
				s.part(problem)
				return
			}
			if length == 0 {
				break
			}
			s.message(buf[:length], in)
			buf = buf[length:]
			begun = time.Now()
		}
		if len(buf) == 0 {
			buf, begun = nil, time.Time{} // let a large message's memory go
		}
	}
}

// farewell bounds how long the end of a peer's stream is awaited.
const farewell = time.Second

// part ends a stream after all that is queued for it. What the peer still sends is
// read and dropped: closing on it would reset the connection, and the peer would
// not see the last answer.
func (s *stream) part(problem error) {
	if s.enqueue(outgoing{last: true, fresh: true}) == nil {
		_ = s.conn.SetReadDeadline(time.Now().Add(farewell))
		_, _ = io.CopyN(io.Discard, s.conn, 1<<20)
	}
	s.close(problem)
}

// deadline of the next read: idle streams may wait longer than half a message.
func (s *stream) deadline(begun time.Time) time.Time {
	if !begun.IsZero() {
		return begun.Add(s.t.cfg.MessageTimeout)
	}
	if idle := s.t.cfg.IdleTimeout; idle > 0 {
		return time.Now().Add(idle)
	}
	return time.Time{}
}

// message takes one message of the stream.
func (s *stream) message(raw []byte, in Inbound) {
	m, problem := s.t.parser.Message(raw)
	if problem != nil {
		s.t.refuse(raw, problem, in)
		return
	}
	in.Message, in.Text = m, string(raw)
	s.learnAlias(in)
	s.t.hand(in)
}

// keepAlive removes CRLFs between messages: a double one is a ping, answered with
// a single one, a single one is a pong (RFC 5626 4.4.1). A ping may come in two
// pieces: where none is sent from here there is no pong to mistake them for.
func (s *stream) keepAlive(buf []byte) []byte {
	ping := len(buf) >= 4 && string(buf[:4]) == "\r\n\r\n"
	for len(buf) >= 2 && buf[0] == '\r' && buf[1] == '\n' {
		buf = buf[2:]
		if s.route.KeepAlive == 0 {
			s.crlfs++
			ping = s.crlfs%2 == 0
		}
		told := s.heard
		if ping {
			told = s.pong
		}
		select {
		case told <- struct{}{}:
		default:
		}
	}
	if len(buf) > 0 {
		s.crlfs = 0
	}
	return buf
}
