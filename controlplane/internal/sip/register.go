package sip

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/google/uuid"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/digest"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/registrar"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/transaction"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/trunk"
)

// Register makes the number reachable. See gateway.Network.
func (n *Network) Register(ctx context.Context, a gateway.Account) error {
	n.learnAccount(ctx, a.Tenant, a.Number)
	t := n.set().Account(a.Tenant, a.Number)
	if t == nil {
		return nil
	}
	return n.registrar.Register(ctx, a.RegistrationID, t, a.Number)
}

// Deregister ends what Register began.
func (n *Network) Deregister(ctx context.Context, registrationID string) error {
	return n.registrar.Deregister(ctx, registrationID)
}

// Keep goes on with the registrations of an earlier process. Their REGISTERs are
// spread, so that a restart is no storm for the registrar: at most RegisterRate a
// second on average, and all within half of the lifetime that is asked for.
func (n *Network) Keep(accounts []gateway.Account) {
	n.loadAccounts(n.ctx, n.set())
	window := time.Duration(len(accounts)) * time.Second / time.Duration(n.cfg.RegisterRate)
	for _, a := range accounts {
		if t := n.set().Account(a.Tenant, a.Number); t != nil {
			spread := max(min(window, t.Expires/2), time.Millisecond)
			n.registrar.Keep(a.RegistrationID, t, a.Number, time.Duration(n.rand(int(spread/time.Millisecond)))*time.Millisecond)
		}
	}
}

func (n *Network) bindingLost(a gateway.Account, description string) {
	n.events.BindingLost(n.ctx, a, description)
}

// registering is the Network as the registrar's transport.
type registering Network

// NewID makes the identifiers of a binding.
func (h *registering) NewID(number call.Number) (string, string) {
	n := (*Network)(h)
	id := n.random(24)
	n.mu.Lock()
	n.labels[id] = number
	n.mu.Unlock()
	return id, n.random(12)
}

// Forget drops what NewID and Register keep.
func (h *registering) Forget(callID string) {
	n := (*Network)(h)
	n.mu.Lock()
	delete(n.labels, callID)
	delete(n.accounts, callID)
	n.mu.Unlock()
}

// After runs f later.
func (h *registering) After(d time.Duration, f func()) func() {
	n := (*Network)(h)
	t := n.after(d, f)
	return func() { n.cancelTimer(t) }
}

// sipURI tells whether a request can go to a URI.
func sipURI(uri string) bool {
	scheme, _, _ := strings.Cut(uri, ":")
	return strings.EqualFold(scheme, "sip") || strings.EqualFold(scheme, "sips")
}

func (n *Network) account(callID string, t *trunk.Trunk, number call.Number) *digest.Session {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.accounts[callID]; a != nil {
		return a
	}
	cred, _ := t.CredentialsOf(number)
	a := digest.NewSession(digest.Credentials{Username: cred.Username, Password: cred.Password}, func() string { return n.random(16) })
	n.accounts[callID] = a
	return a
}

// Register sends one REGISTER (RFC 3261 10.2).
func (h *registering) Register(r registrar.Request, result func(registrar.Answer)) {
	n := (*Network)(h)
	t := n.set().ByName(r.Trunk.Name) // its credentials may have changed
	if t == nil {
		t = r.Trunk
	}
	auth := n.account(r.CallID, t, r.Number)
	aor := trunk.NameAddr("", t.AOR(r.Number))
	d := dialog.State{CallID: r.CallID, LocalTag: r.Tag, LocalURI: aor, RemoteURI: aor,
		Target: t.Scheme() + t.Domain, Contact: string(r.Number), Secure: t.SIPS}
	out, err := n.build("REGISTER", r.Seq, d)
	var place trunk.Target
	if err == nil {
		place, err = trunk.ParseTarget(t.Registrar)
	}
	if err != nil {
		n.after(0, func() { result(registrar.Answer{Err: err}) })
		return
	}
	req := out.req
	expires := strconv.FormatUint(uint64(r.Expires), 10)
	supported := "path"
	out.contact = true
	if t.Outbound {
		out.contactParams = `;+sip.instance="<` + instance(t.Name, r.Number) + `>";reg-id=1`
		supported += ", outbound"
	}
	out.contactParams += ";expires=" + expires
	req.AppendHeader(sip.NewHeader("Contact", ""))
	req.AppendHeader(sip.NewHeader("Expires", expires))
	req.AppendHeader(sip.NewHeader("Supported", supported))
	for _, f := range access(t) {
		req.AppendHeader(sip.NewHeader(f.Name, f.Value))
	}
	for _, f := range auth.Fields("REGISTER", req.Recipient.String()) {
		req.AppendHeader(f)
	}
	req.SetBody(nil)
	n.launchTo(t, out, placeQuery(t, place), func(res transaction.Result) {
		switch {
		case res.Err != nil:
			result(registrar.Answer{Err: res.Err, Timeout: errors.Is(res.Err, transaction.ErrTimeout)})
		case res.Response.StatusCode < 200:
		case (res.Response.StatusCode == 401 || res.Response.StatusCode == 407) && auth.Challenge(req, res.Response):
			result(registrar.Answer{Challenged: true})
		case (res.Response.StatusCode == 401 || res.Response.StatusCode == 403 || res.Response.StatusCode == 407) && n.renewed(r.CallID, t, r.Number):
			result(registrar.Answer{Challenged: true})
		default:
			auth.Accepted()
			a := registered(res.Response, r.Number)
			a.Events = a.Events || t.RegEvent
			result(a)
		}
	})
}

// registered reads a final response to REGISTER.
func registered(res *sip.Response, number call.Number) registrar.Answer {
	a := registrar.Answer{Signal: call.Signal{Code: res.StatusCode, Phrase: phrase(res.Reason), Q850: header.Q850(res)}}
	a.Expires, _ = header.Number(header.First(res, "Expires"))
	for _, v := range header.List(res, "Contact") {
		_, uri, params, ok := header.NameAddr(v)
		if !ok {
			continue
		}
		var u sip.Uri
		if sip.ParseUri(uri, &u) != nil || u.User != string(number) {
			continue
		}
		if e, ok := header.Number(params["expires"]); ok {
			a.Expires = e
		}
	}
	a.MinExpires, _ = header.Number(header.First(res, "Min-Expires"))
	if s, ok := header.Number(header.First(res, "Retry-After")); ok {
		a.RetryAfter = time.Duration(min(s, 3600)) * time.Second
	}
	a.ServiceRoute = uris(res, "Service-Route")
	a.Associated = uris(res, "P-Associated-URI")
	a.Outbound = header.Has(res, "Require", "outbound")
	a.Events = header.Has(res, "Allow-Events", "reg")
	return a
}

// uris of a list field, as far as they are SIP or tel.
func uris(m sip.Message, name string) []string {
	var out []string
	for _, v := range kept(m, name) {
		_, uri, _, ok := header.NameAddr(v)
		scheme, _, _ := strings.Cut(strings.ToLower(uri), ":")
		if ok && (scheme == "sip" || scheme == "sips" || scheme == "tel") {
			out = append(out, uri)
		}
	}
	return out
}

// instances is the name space of instance identifiers.
var instances = uuid.MustParse("5d0b2c1e-3f0c-4d44-9d2a-6b1f6d8a7c30")

// instance names this gateway as the device of a number (RFC 5626 4.1): the same
// after every restart and in every process, so that a registrar replaces a binding
// instead of adding one.
func instance(trunkName string, number call.Number) string {
	return "urn:uuid:" + uuid.NewSHA1(instances, []byte(trunkName+"\x00"+string(number))).String()
}
