package sip

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/digest"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/locate"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/reginfo"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/transaction"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// watch is a subscription to the reg event of one number (RFC 6665, RFC 3680). A
// registrar that does not take it, or ends it for good, is not asked again: REGISTER
// alone keeps the binding, the reg event only tells of its end earlier.
//
//	SUBSCRIBE ──2xx──► active ──► refreshed at half of its life ──► …
//	    │ 401, 407: with credentials        │ 481 or NOTIFY terminated: anew,
//	    │ anything else: over               │   unless it says why not
//	    ▼                                   ▼
//	   over ◄──────────────────────────── Unwatch: SUBSCRIBE with Expires: 0
type watch struct {
	n      *Network
	trunk  *trunk.Trunk
	number call.Number
	auth   *digest.Session

	mu      sync.Mutex
	d       dialog.State
	over    bool
	stop    func()
	version uint32
	heard   bool
}

// watchKey finds the watch of a number.
type watchKey struct {
	trunk  string
	number call.Number
}

// Watch subscribes to the reg event of a number.
func (h *registering) Watch(t *trunk.Trunk, number call.Number) {
	n := (*Network)(h)
	aor := trunk.NameAddr("", t.AOR(number))
	w := &watch{n: n, trunk: t, number: number, d: dialog.State{
		CallID: n.random(24), LocalTag: n.random(12), LocalURI: aor, RemoteURI: aor,
		Target: t.AOR(number), Trunk: t.Name, Number: string(number), Contact: string(number), Secure: t.SIPS,
	}}
	cred, _ := t.CredentialsOf(number)
	w.auth = digest.NewSession(digest.Credentials{Username: cred.Username, Password: cred.Password}, func() string { return n.random(16) })
	n.mu.Lock()
	n.watches[watchKey{t.Name, number}] = w
	n.watching[w.d.CallID] = w
	n.labels[w.d.CallID] = number
	n.mu.Unlock()
	// The registrar calls with its binding locked, and the route is the binding's.
	n.after(0, func() { w.subscribe(false) })
}

// Unwatch ends the subscription of a number.
func (h *registering) Unwatch(t *trunk.Trunk, number call.Number) {
	n := (*Network)(h)
	n.mu.Lock()
	w := n.watches[watchKey{t.Name, number}]
	n.mu.Unlock()
	if w != nil {
		n.after(0, func() { w.subscribe(true) })
	}
}

// subscribe sends a SUBSCRIBE, the last one if it is to end.
func (w *watch) subscribe(last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
	if w.d.RemoteTag == "" {
		if last {
			w.end()
			return
		}
		w.d.Routes = w.n.registrar.Profile(w.trunk.Name, w.number).ServiceRoute
	}
	w.d.LocalSeq++
	expires := uint32(w.trunk.Expires / time.Second)
	if last {
		expires = 0
	}
	out, query, err := w.request()
	if err != nil {
		w.end()
		return
	}
	req := out.req
	out.contact = true
	req.AppendHeader(sip.NewHeader("Contact", ""))
	req.AppendHeader(sip.NewHeader("Event", "reg"))
	req.AppendHeader(sip.NewHeader("Accept", reginfo.Type))
	req.AppendHeader(sip.NewHeader("Expires", strconv.FormatUint(uint64(expires), 10)))
	for _, f := range w.auth.Fields("SUBSCRIBE", req.Recipient.String()) {
		req.AppendHeader(f)
	}
	req.SetBody(nil)
	w.n.launchTo(w.trunk, out, query, func(r transaction.Result) { w.answered(req, r, last) })
}

// request is a SUBSCRIBE and where it goes: the first one to the registrar, or on
// the route that it gave, the others where the dialog leads. The caller holds the
// lock.
func (w *watch) request() (outbound, locate.Query, error) {
	out, err := w.n.build("SUBSCRIBE", w.d.LocalSeq, w.d)
	if err != nil {
		return out, locate.Query{}, err
	}
	if w.d.RemoteTag == "" {
		place, err := trunk.ParseTarget(w.trunk.Registrar)
		return out, placeQuery(w.trunk, place), err
	}
	query, err := out.query(w.n)
	return out, query, err
}

// answered takes the response to a SUBSCRIBE.
func (w *watch) answered(req *sip.Request, r transaction.Result, last bool) {
	if r.Err == nil && r.Response.StatusCode < 200 {
		return
	}
	if r.Err == nil && (r.Response.StatusCode == 401 || r.Response.StatusCode == 407) && w.auth.Challenge(req, r.Response) {
		w.subscribe(last)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over:
	case last:
		w.end()
	case r.Err == nil && r.Response.StatusCode/100 == 2:
		w.auth.Accepted()
		w.learn(r.Response)
		granted, ok := header.Number(header.First(r.Response, "Expires"))
		if !ok || granted == 0 {
			granted = uint32(w.trunk.Expires / time.Second)
		}
		w.again(time.Duration(granted) * time.Second / 2)
	case r.Err == nil && r.Response.StatusCode == 481 && w.d.RemoteTag != "":
		w.anew(0)
	default:
		code := 0
		if r.Err == nil {
			code = r.Response.StatusCode
		}
		w.n.log.Info("sip: a registrar does not take the subscription to its reg event", "trunk", w.trunk.Name, "number", w.number, "status", code, "error", r.Err)
		w.end()
	}
}

// learn takes over the dialog that a response makes. The caller holds the lock.
func (w *watch) learn(res *sip.Response) {
	if c := contactURI(res); c != "" {
		w.d.Target = c
	}
	if w.d.RemoteTag != "" {
		return
	}
	w.d.RemoteTag = header.Tag(res.To().Params)
	d := response(res)
	w.d.Routes = nil
	for i := len(d.RecordRoute) - 1; i >= 0; i-- {
		w.d.Routes = append(w.d.Routes, d.RecordRoute[i])
	}
}

// again sends a SUBSCRIBE later. The caller holds the lock.
func (w *watch) again(after time.Duration) {
	if w.stop != nil {
		w.stop()
	}
	t := w.n.after(after, func() { w.subscribe(false) })
	w.stop = func() { w.n.cancelTimer(t) }
}

// anew begins another subscription. The caller holds the lock.
func (w *watch) anew(after time.Duration) {
	w.d.RemoteTag, w.d.Target, w.d.RemoteSeq, w.heard = "", w.trunk.AOR(w.number), 0, false
	w.again(max(after, w.n.cfg.Timers.T2))
}

// end forgets the watch. The caller holds the lock.
func (w *watch) end() {
	w.over = true
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
	n := w.n
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.watching, w.d.CallID)
	delete(n.labels, w.d.CallID)
	if k := (watchKey{w.trunk.Name, w.number}); n.watches[k] == w {
		delete(n.watches, k)
	}
}

// watched reports whether a Call-ID is that of a subscription.
func (n *Network) watched(callID string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.watching[callID] != nil
}

// notify takes a NOTIFY of a subscription. It may come before the response to the
// SUBSCRIBE (RFC 6665 4.1.2.4).
func (n *Network) notify(req *sip.Request, tx *transaction.Server) {
	n.mu.Lock()
	w := n.watching[req.CallID().Value()]
	n.mu.Unlock()
	if w == nil || header.Tag(req.To().Params) != w.d.LocalTag {
		n.refuse(tx, 481, "")
		return
	}
	if event, _ := header.Params(header.First(req, "Event")); !strings.EqualFold(event, "reg") {
		n.refuse(tx, 489, "", [2]string{"Allow-Events", "reg"})
		return
	}
	w.mu.Lock()
	seq := req.CSeq().SeqNo
	if from := header.Tag(req.From().Params); w.d.RemoteTag != "" && from != w.d.RemoteTag {
		w.mu.Unlock()
		n.refuse(tx, 481, "")
		return
	}
	if w.d.RemoteSeq != 0 && seq < w.d.RemoteSeq {
		w.mu.Unlock()
		n.refuse(tx, 500, "")
		return
	}
	w.d.RemoteSeq = seq
	n.refuse(tx, 200, "")
	w.state(header.First(req, "Subscription-State"))
	var info reginfo.Info
	err, fresh := error(nil), false
	if len(req.Body()) > 0 {
		info, err = reginfo.Parse(req.Body())
		fresh = err == nil && (!w.heard || info.Version > w.version)
		if fresh {
			w.heard, w.version = true, info.Version
		}
	}
	w.mu.Unlock()
	if err != nil {
		n.log.Info("sip: a registrar's news cannot be read", "trunk", w.trunk.Name, "number", w.number, "error", err)
	}
	if fresh {
		n.registrar.Notified(w.trunk.Name, w.number, info, func(uri string) bool { return n.ours(uri, w.number) })
	}
}

// state takes Subscription-State (RFC 6665 4.1.3). The caller holds the lock.
func (w *watch) state(value string) {
	word, params := header.Params(value)
	if !strings.EqualFold(word, "terminated") || w.over {
		return
	}
	after, _ := header.Number(params["retry-after"])
	switch strings.ToLower(params["reason"]) {
	case "rejected", "noresource", "invariant":
		w.end()
	default:
		w.anew(time.Duration(after) * time.Second)
	}
}

// ours reports whether a URI is the Contact of a number's binding.
func (n *Network) ours(uri string, number call.Number) bool {
	var u sip.Uri
	if sip.ParseUri(uri, &u) != nil || u.User != string(number) {
		return false
	}
	for _, b := range n.tap.Bound() {
		if strings.EqualFold(strings.Trim(b.Host, "[]"), strings.Trim(u.Host, "[]")) && (b.Port == u.Port || u.Port == 0 && b.Port == sip.DefaultUdpPort) {
			return true
		}
	}
	return false
}
