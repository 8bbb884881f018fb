package relay

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

type endpoint func(w http.ResponseWriter, q *http.Request, id string) error

// Handler serves the paths of the package comment. It is mounted at the path of
// the configured URLs, with that path stripped.
func (r *Relay) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		correlate(w, q)
		method, serve, id := r.route(q.URL.Path)
		switch {
		case serve == nil:
			r.fail(w, q, refuse(http.StatusNotFound, "NOT_FOUND", "There is nothing at this path."))
		case q.Method == http.MethodOptions:
			w.Header().Set("Allow", method+", OPTIONS")
			w.WriteHeader(http.StatusNoContent)
		case q.Method != method:
			r.fail(w, q, refuse(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "Only %s is possible here.", method).with("Allow", method+", OPTIONS"))
		default:
			if err := serve(w, q, id); err != nil {
				r.fail(w, q, err)
			}
		}
	})
}

func (r *Relay) route(path string) (method string, serve endpoint, id string) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) == 1 && parts[0] == "channels":
		return http.MethodPost, r.open, ""
	case len(parts) == 2 && parts[0] == "sinks":
		return http.MethodPost, r.receive, parts[1]
	case len(parts) == 2 && parts[0] == "channels":
		return http.MethodDelete, r.close, parts[1]
	case len(parts) == 3 && parts[0] == "channels":
		switch parts[2] {
		case "credentials":
			return http.MethodPost, r.renew, parts[1]
		case "tickets":
			return http.MethodPost, r.ticket, parts[1]
		case "stream":
			return http.MethodGet, r.events, parts[1]
		case "socket":
			return http.MethodGet, r.socket, parts[1]
		}
	}
	return "", nil, ""
}

// opened is the answer to opening a channel.
type opened struct {
	ID           string      `json:"id"`
	SinkURL      string      `json:"sinkUrl"`
	StreamURL    string      `json:"streamUrl"`
	WebSocketURL string      `json:"webSocketUrl"`
	Credential   credential  `json:"sinkCredential"`
	ExpiresAt    string      `json:"expiresAt"`
	ICEServers   []ICEServer `json:"iceServers,omitempty"`
}

// credential as the events API takes it in a subscription (CAMARA
// sinkCredential).
type credential struct {
	Type    string `json:"credentialType"`
	Token   string `json:"accessToken"`
	Expires string `json:"accessTokenExpiresUtc"`
	Scheme  string `json:"accessTokenType"`
}

func newCredentialAnswer(token string, c gateway.RelayCredential) credential {
	return credential{Type: "ACCESSTOKEN", Token: token, Expires: timestamp(c.Expires), Scheme: "bearer"}
}

func (r *Relay) open(w http.ResponseWriter, q *http.Request, _ string) error {
	p, err := r.auth(q)
	if err != nil {
		return unauthenticated(err)
	}
	now := time.Now()
	secret := newSecret()
	token, c := r.newCredential(now)
	channel := gateway.RelayChannel{
		ID: uuid.Must(uuid.NewV7()).String(), Owner: p.Owner, SinkKey: key(secret),
		Credentials: []gateway.RelayCredential{c}, CreatedAt: now,
	}
	switch err := r.store.OpenRelayChannel(q.Context(), channel, r.config.ChannelsPerOwner); {
	case errors.Is(err, gateway.ErrLimit):
		return refuse(http.StatusTooManyRequests, "QUOTA_EXCEEDED", "There are already %d open channels, which is the limit; close one.", r.config.ChannelsPerOwner)
	case err != nil:
		return unavailable(err)
	}
	sinks, device := r.config.SinkURL, r.config.DeviceURL
	if sinks == "" {
		sinks = baseOf(q, "https")
	}
	if device == "" {
		device = baseOf(q, schemeOf(q))
	}
	url := device + "/channels/" + channel.ID
	w.Header().Set("Location", url)
	answer(w, http.StatusCreated, opened{
		ID:           channel.ID,
		SinkURL:      sinks + "/sinks/" + secret,
		StreamURL:    url + "/stream",
		WebSocketURL: "ws" + strings.TrimPrefix(url, "http") + "/socket",
		Credential:   newCredentialAnswer(token, c),
		ExpiresAt:    timestamp(now.Add(r.config.IdleClose)),
		ICEServers:   r.config.ICEServers,
	})
	r.log.Info("a relay channel is open", "channel", channel.ID, "client", p.Owner.ClientID)
	return nil
}

// baseOf is where the handler is mounted, as the request was addressed.
func baseOf(q *http.Request, scheme string) string {
	prefix := ""
	if u, err := url.ParseRequestURI(q.RequestURI); err == nil {
		prefix = strings.TrimSuffix(u.Path, q.URL.Path)
	}
	return scheme + "://" + q.Host + prefix
}

// schemeOf also believes a proxy that ends TLS: the answer goes to the one who
// asked and to nobody else.
func schemeOf(q *http.Request) string {
	if q.TLS != nil || strings.EqualFold(q.Header.Get("X-Forwarded-Proto"), "https") {
		return "https"
	}
	return "http"
}

// channel finds the caller's channel and how long the caller's token is good.
func (r *Relay) channel(q *http.Request, id string) (gateway.RelayChannel, time.Time, error) {
	p, err := r.auth(q)
	if err != nil {
		return gateway.RelayChannel{}, time.Time{}, unauthenticated(err)
	}
	c, err := r.find(q, id)
	if err == nil && c.Owner != p.Owner {
		err = notFound()
	}
	if err == nil && c.Closed {
		err = gone()
	}
	return c, p.Expires, err
}

func (r *Relay) find(q *http.Request, id string) (gateway.RelayChannel, error) {
	c, err := r.store.RelayChannel(q.Context(), id)
	switch {
	case errors.Is(err, gateway.ErrNotFound):
		return c, notFound()
	case err != nil:
		return c, unavailable(err)
	}
	return c, nil
}

func (r *Relay) close(w http.ResponseWriter, q *http.Request, id string) error {
	c, _, err := r.channel(q, id)
	if err != nil {
		return err
	}
	if err := r.store.CloseRelayChannel(q.Context(), c.ID); err != nil {
		return stored(err)
	}
	r.hub.wake(c.ID)
	w.WriteHeader(http.StatusNoContent)
	r.log.Info("a relay channel is closed", "channel", c.ID)
	return nil
}

func (r *Relay) renew(w http.ResponseWriter, q *http.Request, id string) error {
	channel, _, err := r.channel(q, id)
	if err != nil {
		return err
	}
	now := time.Now()
	token, c := r.newCredential(now)
	channel.Credentials = r.rotate(channel.Credentials, c, now)
	if err := r.store.SetRelayCredentials(q.Context(), channel); err != nil {
		return stored(err)
	}
	answer(w, http.StatusCreated, map[string]any{"sinkCredential": newCredentialAnswer(token, c)})
	return nil
}

func (r *Relay) ticket(w http.ResponseWriter, q *http.Request, id string) error {
	c, authorized, err := r.channel(q, id)
	if err != nil {
		return err
	}
	secret, expires := newSecret(), time.Now().Add(r.config.TicketLife)
	err = r.store.PutRelayTicket(q.Context(), gateway.RelayTicket{
		Key: key(secret), ChannelID: c.ID, Expires: expires, Authorized: authorized,
	})
	if err != nil {
		return stored(err)
	}
	answer(w, http.StatusCreated, map[string]string{"ticket": secret, "expiresAt": timestamp(expires)})
	return nil
}
