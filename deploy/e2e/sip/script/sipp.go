package script

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
)

// Place is where and as whom SIPp plays a scenario. Its texts replace what stands
// in braces in a scenario: {ip}, {far} and so on.
type Place struct {
	// Transport is udp or tcp.
	Transport string
	// IP of SIPp, without brackets, and its Port.
	IP   string
	Port int
	// Gateway is the host:port of the gateway's listener.
	Gateway string
	// Number is the subscriber's, Peer the one at the far end.
	Number, Peer string
	// Domain of the trunk.
	Domain string
	// Far and Far2 are the RTP ports of the far end.
	Far, Far2 int
	// Run makes branches unique.
	Run string
}

func (p Place) v6() bool { return strings.Contains(p.IP, ":") }

// Host of SIPp as URIs have it.
func (p Place) Host() string {
	if p.v6() {
		return "[" + p.IP + "]"
	}
	return p.IP
}

func (p Place) family() string {
	if p.v6() {
		return "IP6"
	}
	return "IP4"
}

// Expand replaces what stands in braces.
func (p Place) Expand(text string) string {
	return strings.NewReplacer(
		"{ip}", p.IP, "{host}", p.Host(), "{port}", fmt.Sprint(p.Port), "{IP}", p.family(),
		"{gateway}", p.Gateway, "{number}", p.Number, "{peer}", p.Peer, "{domain}", p.Domain,
		"{digits}", strings.TrimPrefix(p.Number, "+"), "{peerdigits}", strings.TrimPrefix(p.Peer, "+"),
		"{far}", fmt.Sprint(p.Far), "{far2}", fmt.Sprint(p.Far2), "{transport}", p.Transport, "{run}", p.Run,
		"{TRANSPORT}", strings.ToUpper(p.Transport), "{fold}", "\n[$blank]", "{long}", strings.Repeat("0123456789", 140),
		"{tail}", p.Number[min(5, len(p.Number)):],
		"{remote}", "[$remote]", "{target}", "[$target]", "{rseq}", "[$rseq]",
	).Replace(text)
}

// Synchronize is the method of the request that SIPp waits for where the scenario
// has it send something after an action. It does not answer it.
const Synchronize = "MESSAGE"

// writer makes the XML.
type writer struct {
	*Scenario
	p   Place
	out strings.Builder
	// variables that were assigned.
	variables []string
	// seq is the last CSeq of SIPp's; invite that of its last INVITE, with its
	// branch and Request-URI.
	seq, invite       int
	branch, inviteURI string
	branches          int
	// initial are the methods whose last request came outside of a dialog.
	initial map[string]bool
	// answered: a 2xx to an INVITE has passed, so there is a dialog for good;
	// haveTarget: the peer's Contact is known.
	answered, haveTarget bool
	// final is the code of the last response to SIPp's INVITE.
	final int
}

// SIPp writes the network's part of the scenario.
func (s *Scenario) SIPp(p Place) string {
	w := &writer{Scenario: s, p: p, initial: map[string]bool{}}
	fmt.Fprintf(&w.out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<scenario name=%q>\n", s.Name)
	acted, began := false, false
	for _, step := range s.Steps {
		switch {
		case step.Actor != "":
			acted = true
			continue
		case step.Out:
			w.receive(step)
		default:
			if acted && began {
				fmt.Fprintf(&w.out, "  <recv request=%q/>\n", Synchronize)
			}
			w.send(step)
		}
		acted, began = false, true
	}
	if len(w.variables) > 0 {
		fmt.Fprintf(&w.out, "  <Reference variables=%q/>\n", strings.Join(w.variables, ","))
	}
	w.out.WriteString("</scenario>\n")
	if p.v6() {
		// In brackets SIPp looks for its own keywords, of which this is one.
		return strings.ReplaceAll(w.out.String(), p.Host(), "[local_ip]")
	}
	return w.out.String()
}

// capture assigns what matches of a header field to variables.
func (w *writer) capture(header, expression string, variables ...string) string {
	for _, v := range variables {
		if !slices.Contains(w.variables, v) {
			w.variables = append(w.variables, v)
		}
	}
	var escaped strings.Builder
	_ = xml.EscapeText(&escaped, []byte(expression)) // a Builder takes everything
	return fmt.Sprintf("    <ereg regexp=\"%s\" search_in=\"hdr\" header=\"%s:\" assign_to=\"%s\"/>\n", escaped.String(), header, strings.Join(variables, ","))
}

func (w *writer) receive(s Step) {
	kind := fmt.Sprintf("request=%q", s.Method)
	var actions string
	if s.Code == 0 {
		for _, name := range []string{"Via", "CSeq", "From", "To"} {
			actions += w.capture(name, "[^ ].*", strings.ToLower(name)+s.Method)
		}
		w.initial[s.Method] = !w.Caller() && !w.answered && s.Method != "PRACK" && s.Method != "UPDATE"
		switch {
		case s.Method == "REGISTER":
			actions += w.capture("Contact", "[^ ].*", "contact")
		case s.Method == "INVITE":
			actions += w.capture("Contact", "<([^>]*)>", "whole", "target")
			w.haveTarget = true
			if w.initial["INVITE"] {
				actions += w.capture("From", "[^ ].*", "remote") + w.capture("To", "[^ ].*", "to")
			}
		}
	} else {
		kind = fmt.Sprintf("response=\"%d\"", s.Code)
		if s.Method == "INVITE" && s.Code > 100 {
			actions = w.capture("To", "[^ ].*", "remote")
			if s.Code < 300 {
				actions += w.capture("Contact", "<([^>]*)>", "whole", "target")
				w.haveTarget = true
				w.answered = w.answered || s.Code >= 200
			}
			if s.Code < 200 && w.pracks() {
				actions += w.capture("RSeq", "[0-9]+", "rseq")
			}
			w.final = s.Code
		}
	}
	optional := ""
	if s.Optional {
		optional = ` optional="true"`
	}
	if actions == "" || s.Optional {
		fmt.Fprintf(&w.out, "  <recv %s%s/>\n", kind, optional)
		return
	}
	fmt.Fprintf(&w.out, "  <recv %s>\n   <action>\n%s   </action>\n  </recv>\n", kind, actions)
}

// pracks reports whether SIPp sends a PRACK anywhere.
func (w *writer) pracks() bool {
	return slices.ContainsFunc(w.Steps, func(s Step) bool { return !s.Out && s.Method == "PRACK" && s.Code == 0 })
}

func (w *writer) newBranch() string {
	w.branches++
	return fmt.Sprintf("z9hG4bK-%s-%d", w.p.Run, w.branches)
}

func (w *writer) send(s Step) {
	if d, ok := s.Last(Delay); ok {
		fmt.Fprintf(&w.out, "  <pause milliseconds=%q/>\n", d)
	}
	var lines []string
	if s.Code == 0 {
		lines = w.request(s)
	} else {
		lines = w.response(s)
	}
	for _, name := range s.All(Drop) {
		lines = slices.DeleteFunc(lines, func(l string) bool {
			return strings.HasPrefix(strings.ToLower(l), strings.ToLower(name)+":")
		})
	}
	kind, body := w.body(s)
	for _, h := range s.All(Header) {
		if strings.HasPrefix(h, "Content-Type:") || strings.HasPrefix(h, "c:") {
			kind = ""
		}
		lines = append(lines, w.p.Expand(h))
	}
	if len(body) > 0 {
		if kind != "" {
			lines = append(lines, "Content-Type: "+kind)
		}
		lines = append(lines, "Content-Length: [len]", "")
		lines = append(lines, body...)
	} else {
		lines = append(lines, "Content-Length: 0", "")
	}
	text := strings.Join(lines, "\n")
	if strings.Contains(text, "[$blank]") {
		// SIPp takes blanks away from where lines begin.
		w.variables = append(w.variables, "blank")
		w.out.WriteString("  <nop><action><assignstr assign_to=\"blank\" value=\" \"/></action></nop>\n")
	}
	fmt.Fprintf(&w.out, "  <send><![CDATA[\n%s\n]]></send>\n", text)
}

func (w *writer) via(branch string) string {
	return fmt.Sprintf("Via: SIP/2.0/%s %s:%d;branch=%s", strings.ToUpper(w.p.Transport), w.p.Host(), w.p.Port, branch)
}

func (w *writer) contact() string {
	return fmt.Sprintf("Contact: <sip:%s@%s:%d;transport=%s>", w.p.Peer, w.p.Host(), w.p.Port, w.p.Transport)
}

func (w *writer) request(s Step) []string {
	p := w.p
	target := "[$target]"
	if !w.haveTarget {
		target = fmt.Sprintf("sip:%s@%s", p.Number, p.Gateway)
	}
	if s.Method == "INVITE" && w.Caller() && !w.answered {
		// A new attempt after a refusal.
		w.final, w.haveTarget, target = 0, false, fmt.Sprintf("sip:%s@%s", p.Number, p.Gateway)
	}
	from, to := fmt.Sprintf("[$to];tag=%s", w.tag(s)), "[$remote]"
	if w.Caller() {
		from = fmt.Sprintf("\"Far end\" <sip:%s@%s:%d>;tag=this", p.Peer, p.Host(), p.Port)
		if w.final == 0 {
			to = fmt.Sprintf("<sip:%s@%s>", p.Number, p.Domain)
		}
	}
	branch := w.newBranch()
	switch s.Method {
	case "CANCEL":
		branch, target, to = w.branch, w.inviteURI, fmt.Sprintf("<sip:%s@%s>", p.Number, p.Domain)
	case "ACK":
		if w.final >= 300 {
			branch, target = w.branch, w.inviteURI
		}
	default:
		w.seq++
	}
	seq := w.seq
	if s.Method == "ACK" || s.Method == "CANCEL" {
		seq = w.invite
	}
	if u, ok := s.Last(URI); ok {
		target = p.Expand(u)
	}
	if s.Method == "INVITE" {
		w.invite, w.branch, w.inviteURI = w.seq, branch, target
	}
	number := fmt.Sprint(seq)
	if c, ok := s.Last(CSeq); ok {
		number = c
	}
	lines := []string{
		fmt.Sprintf("%s %s SIP/2.0", s.Method, target), w.via(branch), "Max-Forwards: 70",
		"From: " + from, "To: " + to, "Call-ID: [call_id]", fmt.Sprintf("CSeq: %s %s", number, s.Method),
	}
	switch s.Method {
	case "INVITE", "UPDATE":
		lines = append(lines, w.contact())
	case "PRACK":
		lines = append(lines, fmt.Sprintf("RAck: [$rseq] %d INVITE", w.invite))
	}
	return w.replaced(lines, s)
}

// replaced leaves out the lines for which the step has fields of its own.
func (w *writer) replaced(lines []string, s Step) []string {
	for _, h := range s.All(Header) {
		name, _, _ := strings.Cut(h, ":")
		switch name {
		case "From", "To", "Contact", "RAck", "Max-Forwards", "CSeq", "Via":
			lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+":") })
		}
	}
	return lines
}

// tag of this end as the called one.
func (w *writer) tag(s Step) string {
	if t, ok := s.Last(Tag); ok {
		return t
	}
	return "this"
}

var phrases = map[int]string{
	100: "Trying", 180: "Ringing", 181: "Call Is Being Forwarded", 182: "Queued", 183: "Session Progress", 199: "Early Dialog Terminated",
	200: "OK", 202: "Accepted", 300: "Multiple Choices", 302: "Moved Temporarily", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 407: "Proxy Authentication Required",
	408: "Request Timeout", 410: "Gone", 420: "Bad Extension", 422: "Session Interval Too Small", 480: "Temporarily Unavailable",
	481: "Call/Transaction Does Not Exist", 484: "Address Incomplete", 486: "Busy Here", 487: "Request Terminated", 488: "Not Acceptable Here",
	491: "Request Pending", 500: "Server Internal Error", 503: "Service Unavailable", 600: "Busy Everywhere", 603: "Decline", 604: "Does Not Exist Anywhere", 607: "Unwanted",
}

func (w *writer) response(s Step) []string {
	phrase := phrases[s.Code]
	if phrase == "" {
		phrase = "Because"
	}
	to := fmt.Sprintf("To: [$to%s]", s.Method)
	if w.initial[s.Method] && s.Code > 100 {
		to += ";tag=" + w.tag(s)
	}
	if s.Method == "INVITE" && s.Code/100 == 2 {
		w.answered = true
	}
	lines := []string{
		fmt.Sprintf("SIP/2.0 %d %s", s.Code, phrase), fmt.Sprintf("Via: [$via%s]", s.Method),
		fmt.Sprintf("From: [$from%s]", s.Method), to, "Call-ID: [call_id]", fmt.Sprintf("CSeq: [$cseq%s]", s.Method),
	}
	if s.Code > 100 && s.Code < 300 && (s.Method == "INVITE" || s.Method == "UPDATE") {
		lines = append(lines, w.contact())
	}
	return w.replaced(lines, s)
}
