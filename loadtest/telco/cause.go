package telco

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

var (
	errTimeout = errors.New("no response in time")
	errClosed  = errors.New("the network is shutting down")
)

// Cause says why a call ended. It is the error of a call that failed, and
// travels in the Reason header (RFC 3326).
type Cause struct {
	// Code is the SIP status, or 200 for an ordinary end of an answered call.
	Code int
	// Text is the reason phrase.
	Text string
	// Q850 is the ITU-T Q.850 cause, 0 when there is none.
	Q850 int
	// Remote tells that the other side ended the call.
	Remote bool
}

type cause = Cause

// Error implements error.
func (c Cause) Error() string {
	who := "ended by the network"
	if c.Remote {
		who = "ended by the peer"
	}
	s := fmt.Sprintf("%s: %d %s", who, c.Code, c.Text)
	if c.Q850 != 0 {
		s += fmt.Sprintf("; Q.850 cause %d", c.Q850)
	}
	return s
}

// normalClearing is what a BYE means when it says nothing else.
var normalClearing = cause{Code: 200, Text: "Normal call clearing", Q850: 16}

// reason renders the cause as a Reason header, or returns nil when it has
// nothing to say.
func (c Cause) reason() sip.Header {
	switch {
	case c.Q850 != 0:
		return sip.NewHeader("Reason", fmt.Sprintf("Q.850;cause=%d;text=%q", c.Q850, c.Text))
	case c.Code >= 300:
		return sip.NewHeader("Reason", fmt.Sprintf("SIP;cause=%d;text=%q", c.Code, c.Text))
	}
	return nil
}

// remoteCause reads the Reason headers of a message from the peer, on top of
// what the message says by itself.
func remoteCause(m sip.Message, code int, text string) cause {
	c := cause{Code: code, Text: text, Remote: true}
	for _, h := range m.GetHeaders("Reason") {
		protocol, params, _ := strings.Cut(h.Value(), ";")
		for param := range strings.SplitSeq(params, ";") {
			value, ok := strings.CutPrefix(strings.TrimSpace(param), "cause=")
			if !ok {
				continue
			}
			number, err := strconv.Atoi(value)
			if err != nil {
				continue
			}
			if strings.EqualFold(strings.TrimSpace(protocol), "Q.850") {
				c.Q850 = number
			}
		}
	}
	return c
}

// statusText gives the usual phrase of a status code.
func statusText(code int) string {
	switch code {
	case 100:
		return "Trying"
	case 180:
		return "Ringing"
	case 181:
		return "Call Is Being Forwarded"
	case 182:
		return "Queued"
	case 183:
		return "Session Progress"
	case 200:
		return "OK"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 407:
		return "Proxy Authentication Required"
	case 408:
		return "Request Timeout"
	case 415:
		return "Unsupported Media Type"
	case 416:
		return "Unsupported URI Scheme"
	case 420:
		return "Bad Extension"
	case 422:
		return "Session Interval Too Small"
	case 423:
		return "Interval Too Brief"
	case 480:
		return "Temporarily Unavailable"
	case 481:
		return "Call/Transaction Does Not Exist"
	case 483:
		return "Too Many Hops"
	case 486:
		return "Busy Here"
	case 487:
		return "Request Terminated"
	case 488:
		return "Not Acceptable Here"
	case 489:
		return "Bad Event"
	case 491:
		return "Request Pending"
	case 500:
		return "Server Internal Error"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Server Time-out"
	case 603:
		return "Decline"
	}
	return "Status " + strconv.Itoa(code)
}
