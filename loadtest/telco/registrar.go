package telco

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// registrar keeps the contacts of subscribers (RFC 3261 section 10.3).
type registrar struct {
	n    *Network
	auth *authenticator
	now  func() time.Time

	mu       sync.Mutex
	bindings map[string][]binding // by number
}

type binding struct {
	contact   sip.Uri
	path      []sip.Uri
	callID    string
	seq       uint32
	expires   time.Time
	transport string
}

// Binding is a registered contact of a subscriber.
type Binding struct {
	Contact string
	Path    []string
	Expires time.Time
}

func newRegistrar(n *Network) *registrar {
	return &registrar{
		n: n, now: time.Now, bindings: map[string][]binding{},
		auth: &authenticator{
			realm: n.cfg.Domain, algorithms: n.cfg.Registrar.Algorithms,
			nonces: &nonces{lifetime: n.cfg.Registrar.NonceLifetime, now: time.Now, issued: map[string]*nonceUse{}},
		},
	}
}

// Registered returns the current contacts of a subscriber.
func (n *Network) Registered(number string) []Binding {
	var list []Binding
	for _, b := range n.registrar.contacts(number) {
		out := Binding{Contact: b.contact.String(), Expires: b.expires}
		for _, p := range b.path {
			out.Path = append(out.Path, p.String())
		}
		list = append(list, out)
	}
	return list
}

// contacts returns the bindings that have not expired, the newest last.
func (r *registrar) contacts(number string) []binding {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.current(number))
}

func (r *registrar) current(number string) []binding {
	now := r.now()
	left := slices.DeleteFunc(r.bindings[number], func(b binding) bool { return !b.expires.After(now) })
	if len(left) == 0 {
		delete(r.bindings, number)
	} else {
		r.bindings[number] = left
	}
	return left
}

// member returns the number and password that a digest user name stands for.
func (r *registrar) member(user string) (number, password string, ok bool) {
	user, _, _ = strings.Cut(user, "@")
	number = r.n.normalize.number(user)
	password, ok = r.n.passwords[number]
	return number, password, ok && password != ""
}

func (r *registrar) secret(user string) (string, bool) {
	_, password, ok := r.member(user)
	return password, ok
}

// admit checks the caller of an INVITE and answers it when it must not go on.
func (r *registrar) admit(req *sip.Request, tx *sip.ServerTx, caller string) bool {
	if r.n.cfg.RequireRegistration && r.n.isSubscriber(caller) && len(r.contacts(caller)) == 0 {
		r.n.refuse(req, tx, 403)
		return false
	}
	password := r.n.passwords[caller]
	if !r.n.cfg.AuthenticateCalls || password == "" {
		return true
	}
	outcome, user := r.auth.check(req, "Proxy-Authorization", r.secret)
	number, _, _ := r.member(user)
	switch {
	case outcome == verified && number == caller:
		return true
	case outcome == verified:
		r.n.refuse(req, tx, 403)
	default:
		r.auth.challenge(r.n, req, tx, 407, outcome == stale)
	}
	return false
}

// handle serves a REGISTER request.
func (r *registrar) handle(req *sip.Request, tx *sip.ServerTx) {
	n := r.n
	number := n.normalize.uri(&req.To().Address)
	if !n.isSubscriber(number) {
		n.refuse(req, tx, 404)
		return
	}
	if n.passwords[number] != "" {
		outcome, user := r.auth.check(req, "Authorization", r.secret)
		authenticated, _, _ := r.member(user)
		switch {
		case outcome == verified && authenticated == number:
		case outcome == verified:
			n.refuse(req, tx, 403)
			return
		default:
			r.auth.challenge(n, req, tx, 401, outcome == stale)
			return
		}
	}
	changes, status := r.parse(req)
	switch status {
	case 0:
	case 423:
		n.refuse(req, tx, 423, sip.NewHeader("Min-Expires", seconds(n.cfg.Registrar.MinExpires)))
		return
	default:
		n.refuse(req, tx, status)
		return
	}
	current, ok := r.apply(number, req, changes)
	if !ok {
		n.refuse(req, tx, 500)
		return
	}
	n.log.Info("registration", "number", number, "contacts", len(current), "sip_call_id", req.CallID().Value())
	n.respond(tx, r.accepted(req, number, current))
}

func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// change is what a REGISTER asks for one contact; a nil contact is "*".
type change struct {
	contact  *sip.Uri
	lifetime time.Duration
}

// parse reads the contacts of a request. A status other than 0 refuses it.
func (r *registrar) parse(req *sip.Request) ([]change, int) {
	lifetime := r.n.cfg.Registrar.MaxExpires
	if value := headerValue(req, "Expires"); value != "" {
		given, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return nil, 400
		}
		lifetime = time.Duration(given) * time.Second
	}
	var changes []change
	headers := append(req.GetHeaders("Contact"), req.GetHeaders("m")...)
	for _, h := range headers {
		contact, ok := h.(*sip.ContactHeader)
		if !ok {
			return nil, 400
		}
		if contact.Address.Wildcard {
			if len(headers) != 1 || lifetime != 0 {
				return nil, 400
			}
			return []change{{nil, 0}}, 0
		}
		c := change{contact.Address.Clone(), lifetime}
		if value, ok := contact.Params.Get("expires"); ok {
			given, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return nil, 400
			}
			c.lifetime = time.Duration(given) * time.Second
		}
		if c.lifetime > 0 && c.lifetime < r.n.cfg.Registrar.MinExpires {
			return nil, 423
		}
		c.lifetime = min(c.lifetime, r.n.cfg.Registrar.MaxExpires)
		changes = append(changes, c)
	}
	return changes, 0
}

// apply makes the changes, all or none: a request older than one already seen
// in the same Call-ID changes nothing (RFC 3261 section 10.3 step 7).
func (r *registrar) apply(number string, req *sip.Request, changes []change) ([]binding, bool) {
	callID, seq := req.CallID().Value(), req.CSeq().SeqNo
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.Clone(r.current(number))
	for _, c := range changes {
		i := slices.IndexFunc(list, func(b binding) bool { return c.contact != nil && sameContact(&b.contact, c.contact) })
		for j, b := range list {
			if (c.contact == nil || i == j) && b.callID == callID && seq <= b.seq {
				return nil, false
			}
		}
		switch {
		case c.contact == nil:
			list = nil
			continue
		case i >= 0:
			list = slices.Delete(list, i, i+1)
		}
		if c.lifetime == 0 {
			continue
		}
		b := binding{contact: *c.contact, callID: callID, seq: seq, expires: r.now().Add(c.lifetime), transport: req.Transport()}
		for _, h := range req.GetHeaders("Path") {
			b.path = append(b.path, parseRoutes(h.Value())...)
		}
		list = append(list, b)
	}
	if len(list) == 0 {
		delete(r.bindings, number)
	} else {
		r.bindings[number] = list
	}
	return slices.Clone(list), true
}

// sameContact compares contacts by what decides where a call goes.
func sameContact(a, b *sip.Uri) bool {
	ta, _ := a.UriParams.Get("transport")
	tb, _ := b.UriParams.Get("transport")
	return strings.EqualFold(a.Scheme, b.Scheme) && a.User == b.User && strings.EqualFold(a.Host, b.Host) &&
		a.Port == b.Port && strings.EqualFold(ta, tb)
}

// parseRoutes reads a list of name-addr values.
func parseRoutes(value string) []sip.Uri {
	var routes []sip.Uri
	for part := range strings.SplitSeq(value, ",") {
		_, rest, ok := strings.Cut(part, "<")
		inner, _, closed := strings.Cut(rest, ">")
		var uri sip.Uri
		if ok && closed && sip.ParseUri(inner, &uri) == nil {
			routes = append(routes, uri)
		}
	}
	return routes
}

// accepted builds the 200 with the current bindings.
func (r *registrar) accepted(req *sip.Request, number string, current []binding) *sip.Response {
	n := r.n
	res := sip.NewResponseFromRequest(req, 200, "OK", nil)
	for _, b := range current {
		contact := &sip.ContactHeader{Address: b.contact, Params: sip.NewParams()}
		contact.Params.Add("expires", seconds(b.expires.Sub(r.now())))
		res.AppendHeader(contact)
	}
	res.AppendHeader(sip.NewHeader("P-Associated-URI",
		fmt.Sprintf("<sip:%s@%s;user=phone>, <tel:%s>", number, n.cfg.Domain, number)))
	if n.cfg.Registrar.ServiceRoute && len(current) > 0 {
		uri := n.contact(req.Transport(), "").Address
		uri.UriParams.Add("lr", "")
		res.AppendHeader(sip.NewHeader("Service-Route", "<"+uri.String()+">"))
		for _, h := range req.GetHeaders("Path") {
			res.AppendHeader(sip.HeaderClone(h))
		}
	}
	res.AppendHeader(sip.NewHeader("Date", r.now().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")))
	return res
}
