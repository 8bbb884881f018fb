package dialog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

func testConfig() Config {
	return Config{T1: 500 * time.Millisecond, T2: 4 * time.Second, Invite: 3 * time.Minute, Attempt: 3 * time.Second,
		Ringing: time.Minute, Targets: 1, Reliable: "supported", SessionExpires: 1800, MinSE: 90,
		DigitType: "application/dtmf-relay", Now: func() time.Time { return time.Unix(1e9, 0) }, Rand: func(int) int { return 0 }}
}

func testState() State {
	return State{CallID: "id", LocalTag: "l", LocalURI: "<sip:a@x>", RemoteURI: "<sip:b@x>", Target: "sip:b@x", Trunk: "t", Network: "udp", LocalSeq: 10}
}

// world drives a machine and checks after each step what the RFCs forbid.
type world struct {
	t *rapid.T
	m *Machine
	// client transactions: open ones, those with a 1xx, cancelled ones.
	open      map[Tx]Send
	provision map[Tx]bool
	cancelled map[Tx]bool
	final     map[Tx]int
	// server transactions without a final response, and all that were final.
	waiting   map[Req]Request
	finals    map[Req]Respond
	lastReq   Req
	remoteSeq uint32
	timers    map[Timer]bool
	ended     int
	tokens    map[Token]bool
	lastToken Token
	offered   map[Req]bool
	// okSent and acked tell whether a BYE is allowed.
	acked, okSent, ackTimer bool
	unacked                 string // RSeq of the reliable 1xx under way
	invite                  Req
	seqs                    map[string]uint32
	acks, challenged        int
	rseq                    uint32
	// early dialogs of our INVITE: in which our offer was answered reliably, which
	// a 199 ended, and the last RSeq acknowledged in each.
	updatable, dropped map[string]bool
	pracked            map[string]string
}

func newWorld(t *rapid.T) *world {
	return &world{t: t, open: map[Tx]Send{}, provision: map[Tx]bool{}, cancelled: map[Tx]bool{}, final: map[Tx]int{},
		waiting: map[Req]Request{}, finals: map[Req]Respond{}, timers: map[Timer]bool{}, tokens: map[Token]bool{},
		offered: map[Req]bool{}, seqs: map[string]uint32{}, remoteSeq: 100,
		updatable: map[string]bool{}, dropped: map[string]bool{}, pracked: map[string]string{}}
}

// see checks the effects of one step.
func (w *world) see(effects []Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case Send:
			w.sent(e)
		case SendACK:
			w.acks++
			w.acked = true
		case SendCANCEL:
			switch {
			case !w.provision[e.Tx]:
				w.t.Fatalf("CANCEL of %d before a provisional response", e.Tx)
			case w.final[e.Tx] != 0:
				w.t.Fatalf("CANCEL of %d after its final response", e.Tx)
			case w.cancelled[e.Tx]:
				w.t.Fatalf("CANCEL of %d twice", e.Tx)
			}
			w.cancelled[e.Tx] = true
		case Respond:
			w.responded(e)
		case Start:
			if e.After < 0 {
				w.t.Fatalf("timer %s in the past", e.Timer)
			}
			w.timers[e.Timer] = true
		case Stop:
			delete(w.timers, e.Timer)
		case StopAll:
			clear(w.timers)
		case Done:
			if !w.tokens[e.Token] {
				w.t.Fatalf("wish %d was answered twice or never made", e.Token)
			}
			delete(w.tokens, e.Token)
		case Offered:
			w.told(e)
			w.offered[e.Req] = true
		case Provisional, Answered, Acknowledged, Confirmed, Changed, Digit, Referred:
			w.told(e)
		case Ended:
			w.told(e)
			w.ended++
		default:
			w.t.Fatalf("unknown effect %T", e)
		}
	}
	if (w.m.Phase() == Over) != (w.ended == 1) {
		w.t.Fatalf("phase %d with %d Ended", w.m.Phase(), w.ended)
	}
	if w.ended == 1 && len(w.timers) > 0 {
		w.t.Fatalf("timers %v run in a call that is over", w.timers)
	}
}

func (w *world) told(e Effect) {
	if w.ended > 0 {
		w.t.Fatalf("%T was told after the end", e)
	}
}

func (w *world) sent(e Send) {
	key := e.Dialog.RemoteTag
	if e.Method == "INVITE" && key == "" {
		key = "initial"
	}
	if last, ok := w.seqs[key]; ok && e.Seq <= last {
		w.t.Fatalf("%s with CSeq %d after %d in dialog %q", e.Method, e.Seq, last, key)
	}
	w.seqs[key] = e.Seq
	if e.Method == "BYE" && !w.acked && !w.ackTimer {
		w.t.Fatalf("BYE in a dialog that is not confirmed")
	}
	if e.Method == "INVITE" || e.Method == "UPDATE" && e.Body.Content != "" {
		if len(w.offered) > 0 {
			w.t.Fatalf("our offer crosses theirs")
		}
		if n := w.ourOffers(e.Dialog.RemoteTag); n > 0 {
			w.t.Fatalf("%s with an offer while another of ours is under way", e.Method)
		}
	}
	switch {
	case e.Method == "UPDATE" && w.m.Phase() == Calling && !w.updatable[key]:
		w.t.Fatalf("UPDATE in a dialog whose offer was not answered reliably")
	case e.Method == "UPDATE" && w.dropped[key]:
		w.t.Fatalf("UPDATE in a dialog that a 199 has ended")
	case e.Method == "PRACK":
		for _, f := range e.Fields {
			if f.Name == "RAck" && w.challenged == 0 {
				if w.pracked[key] == f.Value {
					w.t.Fatalf("PRACK %s twice", f.Value)
				}
				w.pracked[key] = f.Value
			}
		}
	}
	w.open[e.Tx] = e
}

// ourOffers that have no final response, in one dialog.
func (w *world) ourOffers(tag string) int {
	n := 0
	for tx, s := range w.open {
		if w.final[tx] == 0 && tag != "" && s.Dialog.RemoteTag == tag && s.Body.Content != "" && (s.Method == "INVITE" || s.Method == "UPDATE") {
			n++
		}
	}
	return n
}

func (w *world) responded(e Respond) {
	if f, ok := w.finals[e.Req]; ok {
		if f.Code != e.Code || f.Body != e.Body || f.Code < 200 || f.Code > 299 {
			w.t.Fatalf("request %d got %d and then %d", e.Req, f.Code, e.Code)
		}
		return
	}
	r, ok := w.waiting[e.Req]
	if !ok {
		w.t.Fatalf("response %d to a request that is not waiting", e.Code)
	}
	if e.Code < 200 {
		i := slices.IndexFunc(e.Fields, func(f Field) bool { return f.Name == "RSeq" })
		if i >= 0 {
			rseq := e.Fields[i].Value
			if w.unacked != "" && w.unacked != rseq {
				w.t.Fatalf("a second reliable response before the PRACK of the first")
			}
			w.unacked = rseq
			fmt.Sscan(rseq, &w.rseq)
		}
		return
	}
	delete(w.waiting, e.Req)
	delete(w.offered, e.Req)
	w.finals[e.Req] = e
	if r.Method == "INVITE" && e.Code < 300 {
		if w.unacked != "" && e.Req == w.invite && !w.noSDPUnacked() {
			w.t.Fatalf("200 while a reliable response with a description waits for its PRACK")
		}
		w.okSent = true
	}
}

func (w *world) noSDPUnacked() bool {
	u := w.m.callee.unack
	return u == nil || u.Body.Content == ""
}

func (w *world) request(r Request) Req {
	w.lastReq++
	r.ID = w.lastReq
	w.waiting[r.ID] = r
	return r.ID
}

// act makes one random thing happen.
func (w *world) act() {
	type action struct {
		name string
		do   func()
	}
	var actions []action
	add := func(name string, do func()) { actions = append(actions, action{name, do}) }
	for _, tx := range sorted(w.open) {
		s := w.open[tx]
		if w.final[tx] == 0 {
			add(fmt.Sprint("respond ", s.Method), func() { w.respond(tx, s) })
			add(fmt.Sprint("challenge ", s.Method), func() {
				w.final[tx] = 401
				w.challenged++
				w.see(w.m.Challenged(tx))
				w.challenged--
			})
			add(fmt.Sprint("timeout ", s.Method), func() {
				if s.Method == "INVITE" && w.provision[tx] {
					return // the transaction waits for ever then
				}
				w.final[tx] = -1
				w.see(w.m.Failed(tx, errors.New("no response"), true))
			})
		} else if s.Method == "INVITE" && w.final[tx] == 200 {
			add("2xx again", func() { w.respond2xx(tx, w.tag(tx, rapid.SampledFrom([]string{"r", "r", "s"}).Draw(w.t, "tag"))) })
		}
	}
	for _, t := range sorted(w.timers) {
		add("timer "+string(t), func() {
			delete(w.timers, t)
			if t == TimerACK {
				w.ackTimer = true
			}
			w.see(w.m.Fired(t))
		})
	}
	for _, req := range sorted(w.offered) {
		add("answer", func() {
			var refusal *call.Signal
			if rapid.Bool().Draw(w.t, "refuse") {
				refusal = &call.Signal{Code: 488}
			}
			delete(w.offered, req)
			w.see(w.m.Answer(req, "v=0 answer", refusal))
		})
	}
	add("end", func() { w.see(w.m.End(call.CauseNormal)) })
	add("reoffer", func() {
		w.lastToken++
		w.tokens[w.lastToken] = true
		e, err := w.m.Reoffer(w.lastToken, "v=0 reoffer")
		w.wished(w.lastToken, e, err)
	})
	add("digit", func() {
		w.lastToken++
		w.tokens[w.lastToken] = true
		e, err := w.m.SendDigit(w.lastToken, "5", 100)
		w.wished(w.lastToken, e, err)
	})
	add("progress", func() {
		e, err := w.m.Progress(rapid.SampledFrom([]int{180, 183}).Draw(w.t, "code"), "", rapid.SampledFrom([]string{"", "v=0"}).Draw(w.t, "sdp"))
		if err == nil {
			w.see(e)
		}
	})
	add("accept", func() {
		e, err := w.m.Accept("v=0")
		if err == nil {
			w.see(e)
		}
	})
	add("notify", func() { w.see(w.m.Notify(rapid.SampledFrom([]int{180, 200, 486}).Draw(w.t, "code"), "Phrase")) })
	for _, method := range []string{"BYE", "INVITE", "UPDATE", "INFO", "OPTIONS", "PRACK", "REFER"} {
		add("receive "+method, func() { w.receive(method) })
	}
	add("receive ACK", func() {
		if w.okSent {
			w.acked = true
			w.see(w.m.Request(Request{Method: "ACK", Seq: w.m.callee.okSeq, Body: SDP("v=0 ack")}, w.remoteTag()))
		}
	})
	if w.invite != 0 {
		add("receive CANCEL", func() {
			id := w.request(Request{Method: "CANCEL"})
			w.see(w.m.Cancel(Request{ID: id, Method: "CANCEL"}))
		})
	}
	i := rapid.IntRange(0, len(actions)-1).Draw(w.t, "action")
	w.t.Log(actions[i].name)
	actions[i].do()
}

func (w *world) wished(token Token, e []Effect, err error) {
	if err != nil {
		delete(w.tokens, token)
		return
	}
	w.see(e)
}

func (w *world) receive(method string) {
	w.remoteSeq++
	r := Request{Method: method, Seq: w.remoteSeq, Contact: "sip:b@y", SupportsTimer: rapid.Bool().Draw(w.t, "timer")}
	switch method {
	case "INVITE", "UPDATE":
		r.Body = SDP(rapid.SampledFrom([]string{"", "v=0 theirs"}).Draw(w.t, "offer"))
		r.SessionExpires = rapid.SampledFrom([]uint32{0, 60, 600}).Draw(w.t, "interval")
	case "REFER":
		r.ReferTo = rapid.SampledFrom([]string{"", "sip:x@y"}).Draw(w.t, "refer to")
	case "PRACK":
		r.RAckRSeq, r.RAckSeq, r.RAckMethod = w.rseq, w.m.callee.req.Seq, "INVITE"
		r.Body = SDP(rapid.SampledFrom([]string{"", "v=0 prack"}).Draw(w.t, "offer"))
	}
	matches := method == "PRACK" && w.unacked != "" && w.m.Phase() == Ringing
	r.ID = w.request(r)
	if matches {
		w.unacked = ""
	}
	w.see(w.m.Request(r, w.remoteTag()))
}

// tag of a branch of one INVITE: no two INVITEs share one.
func (w *world) tag(tx Tx, branch string) string { return fmt.Sprint(branch, int(tx)) }

// remoteTag is the peer's in the dialog, or in the early dialog of the last INVITE.
func (w *world) remoteTag() string {
	if w.m.d.RemoteTag != "" {
		return w.m.d.RemoteTag
	}
	return w.tag(w.m.caller.tx, "r")
}

func (w *world) respond(tx Tx, s Send) {
	codes := []int{200, 481, 408, 500, 488, 491}
	if s.Method == "INVITE" {
		codes = append(codes, 100, 180, 183, 199, 486, 503, 422, 302)
	}
	code := rapid.SampledFrom(codes).Draw(w.t, "code")
	tag := w.tag(tx, rapid.SampledFrom([]string{"r", "r", "s"}).Draw(w.t, "tag"))
	if s.Dialog.RemoteTag != "" {
		tag = s.Dialog.RemoteTag
	}
	if code == 200 && s.Method == "INVITE" {
		w.respond2xx(tx, tag)
		return
	}
	r := Response{Signal: call.Signal{Code: code}, ToTag: tag, Contact: "sip:b@" + tag, HasAllow: true, AllowsUpdate: rapid.Bool().Draw(w.t, "update"), MinSE: 2000}
	if code > 100 && code < 200 {
		r.Reliable = rapid.Bool().Draw(w.t, "reliable")
		r.RSeq = uint32(rapid.IntRange(1, 4).Draw(w.t, "rseq"))
		r.SDP = rapid.SampledFrom([]string{"", "v=0", "v=0 other"}).Draw(w.t, "sdp")
		r.EarlyMedia = rapid.SampledFrom([]string{"", "inactive"}).Draw(w.t, "early media")
	}
	if s.Method == "INVITE" && s.Dialog.RemoteTag == "" && code > 100 && code < 200 {
		if code == 199 {
			w.dropped[tag] = true
		} else {
			delete(w.dropped, tag) // a branch that is not dead after all
			w.updatable[tag] = w.updatable[tag] || r.Reliable && r.SDP != ""
		}
	}
	if code == 302 {
		r.Redirects = []string{"sip:elsewhere@y", rapid.SampledFrom([]string{"sip:b@x", "sip:third@y"}).Draw(w.t, "contact")}
	}
	if code < 200 {
		w.provision[tx] = true
	} else {
		w.final[tx] = code
	}
	w.see(w.m.Response(tx, r))
}

func (w *world) respond2xx(tx Tx, tag string) {
	if s := w.open[tx]; s.Dialog.RemoteTag != "" {
		tag = s.Dialog.RemoteTag
	}
	w.final[tx] = 200
	before := w.acks
	w.see(w.m.Response(tx, Response{Signal: call.Signal{Code: 200}, ToTag: tag, Contact: "sip:b@" + tag, SDP: "v=0",
		SessionExpires: rapid.SampledFrom([]uint32{0, 600}).Draw(w.t, "se"), Refresher: rapid.SampledFrom([]string{"uac", "uas"}).Draw(w.t, "refresher")}))
	if w.acks != before+1 {
		w.t.Fatalf("a 2xx to INVITE got %d ACKs", w.acks-before)
	}
}

// finish ends the call and lets everything that is under way come to its end; the
// call must then be over with all requests and wishes answered.
func (w *world) finish() {
	w.see(w.m.End(call.CauseNormal))
	for range 300 {
		if w.m.Phase() == Over && len(w.waiting) == 0 && len(w.tokens) == 0 {
			return
		}
		progressed := false
		for _, req := range sorted(w.offered) {
			delete(w.offered, req)
			w.see(w.m.Answer(req, "v=0", nil))
			progressed = true
		}
		for _, tx := range sorted(w.open) {
			if w.final[tx] == 0 && (w.open[tx].Method != "INVITE" || !w.provision[tx]) {
				w.final[tx] = -1
				w.see(w.m.Failed(tx, errors.New("no response"), true))
				progressed = true
			}
		}
		for _, t := range sorted(w.timers) {
			if w.timers[t] {
				delete(w.timers, t)
				if t == TimerACK {
					w.ackTimer = true
				}
				w.see(w.m.Fired(t))
				progressed = true
			}
		}
		if !progressed {
			break
		}
	}
	if w.m.Phase() != Over || len(w.waiting) > 0 || len(w.tokens) > 0 {
		w.t.Fatalf("the call hangs in phase %d with %d requests and %d wishes unanswered; timers %v", w.m.Phase(), len(w.waiting), len(w.tokens), w.timers)
	}
}

func sorted[K ~int | ~string, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b K) int { return strings.Compare(fmt.Sprintf("%9v", a), fmt.Sprintf("%9v", b)) })
	return out
}

func randomConfig(t *rapid.T) Config {
	cfg := testConfig()
	cfg.Targets = rapid.IntRange(1, 3).Draw(t, "targets")
	cfg.FollowRedirects = rapid.Bool().Draw(t, "follow")
	cfg.FollowRefer = rapid.Bool().Draw(t, "refer")
	cfg.Reliable = rapid.SampledFrom([]string{"off", "supported", "required"}).Draw(t, "reliable policy")
	cfg.SessionExpires = rapid.SampledFrom([]uint32{0, 1800}).Draw(t, "session")
	return cfg
}

// Whatever the order of messages, timers and wishes: one end, nothing after it,
// nothing sent that an RFC forbids, nothing left hanging.
func TestCallerProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.m = NewCaller(randomConfig(t), testState(), "v=0 offer")
		w.see(w.m.Invite())
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			w.act()
		}
		w.finish()
	})
}

func TestCalleeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		r := Request{Method: "INVITE", Seq: w.remoteSeq, Body: SDP(rapid.SampledFrom([]string{"", "v=0"}).Draw(t, "offer")),
			Supports100rel: rapid.Bool().Draw(t, "100rel"), Requires100rel: rapid.Bool().Draw(t, "required"),
			SupportsTimer: rapid.Bool().Draw(t, "timer"), SessionExpires: rapid.SampledFrom([]uint32{0, 600}).Draw(t, "interval")}
		r.ID = w.request(r)
		w.invite = r.ID
		d := testState()
		d.RemoteTag = "r"
		w.m = NewCallee(randomConfig(t), d, r)
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			w.act()
		}
		w.finish()
	})
}

func TestRestoredProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		d := testState()
		d.RemoteTag, d.RemoteSeq, d.LocalSDP = "r", 50, "v=0 mine"
		d.PeerUpdate = rapid.Bool().Draw(t, "update")
		if rapid.Bool().Draw(t, "session") {
			d.Session = &Session{Interval: 600, Refresher: rapid.Bool().Draw(t, "refresher"), Expires: time.Unix(1e9+300, 0)}
		}
		parsed, err := ParseState(d.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		w.acked = true
		w.seqs["r"] = d.LocalSeq + storeEvery - 1 // what may have been sent unstored
		m, effects := Restore(randomConfig(t), parsed)
		w.m = m
		w.see(effects)
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			w.act()
		}
		w.finish()
	})
}
