package telco

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// sessionInterval returns the session interval a request asks for in seconds
// (RFC 4028), or 0 when it asks for none or cannot keep one.
func sessionInterval(req *sip.Request) int {
	if !contains(headerValues(req, "Supported", "k"), "timer") && !contains(headerValues(req, "Require"), "timer") {
		return 0
	}
	seconds, _ := parseSessionExpires(req)
	return seconds
}

func parseSessionExpires(m sip.Message) (seconds int, refresher string) {
	value, params, _ := strings.Cut(headerValue(m, "Session-Expires", "x"), ";")
	seconds, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil || seconds < 0 {
		return 0, ""
	}
	for param := range strings.SplitSeq(params, ";") {
		if r, ok := strings.CutPrefix(strings.TrimSpace(param), "refresher="); ok {
			refresher = strings.ToLower(r)
		}
	}
	return seconds, refresher
}

// grantSessionTimer puts the granted interval into a 2xx. The caller refreshes
// unless it wants us to.
func (s *serverInvite) grantSessionTimer(res *sip.Response) {
	_, refresher := parseSessionExpires(s.req)
	if refresher != "uas" {
		refresher = "uac"
	}
	res.AppendHeader(sip.NewHeader("Session-Expires", fmt.Sprintf("%d;refresher=%s", s.interval, refresher)))
	res.AppendHeader(sip.NewHeader("Require", "timer"))
}

// startSessionTimer begins the granted interval anew.
func (s *serverInvite) startSessionTimer() {
	_, refresher := parseSessionExpires(s.req)
	s.l.runSessionTimer(s.interval, refresher == "uas")
}

// watchSessionTimer begins the interval that the answer to our INVITE grants.
func (l *leg) watchSessionTimer(res *sip.Response) {
	seconds, refresher := parseSessionExpires(res)
	l.runSessionTimer(seconds, refresher == "uac")
}

// runSessionTimer refreshes the session at half of the interval when that is
// our part, and otherwise ends it when the peer does not (RFC 4028 section 10).
func (l *leg) runSessionTimer(seconds int, refresh bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refresh != nil {
		l.refresh.Stop()
		l.refresh = nil
	}
	if seconds == 0 || l.state == ended {
		return
	}
	interval := time.Duration(seconds) * time.Second
	if refresh {
		l.refresh = time.AfterFunc(interval/2, func() {
			l.n.goWork(func() { l.refreshSession(seconds) })
		})
		return
	}
	l.refresh = time.AfterFunc(interval-min(32*time.Second, interval/3), func() {
		l.n.goWork(func() { l.bye(l.n.ctx, cause{Code: 408, Text: "Session timer expired", Q850: 102}) })
	})
}

func (l *leg) refreshSession(seconds int) {
	header := sip.NewHeader("Session-Expires", fmt.Sprintf("%d;refresher=uac", seconds))
	l.mu.Lock()
	update, user := l.canUpdate, l.user
	l.mu.Unlock()
	var res *sip.Response
	var err error
	if update {
		req := l.request(sip.UPDATE)
		req.AppendHeader(header)
		req.SetBody(nil)
		res, err = l.send(l.ctx, req)
	} else if describer, ok := user.(interface{ currentOffer() []byte }); ok {
		res, err = l.reinvite(l.ctx, describer.currentOffer(), nil, header)
	}
	switch {
	case l.ctx.Err() != nil:
	case err != nil || res != nil && (res.StatusCode == 481 || res.StatusCode == 408):
		l.bye(l.n.ctx, cause{Code: 408, Text: "Session refresh failed", Q850: 102})
	default:
		l.runSessionTimer(seconds, true)
	}
}
