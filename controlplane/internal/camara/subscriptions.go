package camara

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

// subscriptions is the events API as it is since it is keyed by device; dialects
// differ in how types and scopes are spelt.
type subscriptions struct {
	gateway Gateway
	dialect dialect
}

func (s subscriptions) bindings() map[string]binding {
	return map[string]binding{
		"createNotificationChannelSubscription":       {handle: s.create, precheck: checkSubscription, secret: true},
		"retrieveNotificationChannelSubscriptionList": {handle: s.list},
		"retrieveNotificationChannelSubscription":     {handle: s.get},
		"updateNotificationChannelSubscription":       {handle: s.update, precheck: checkSubscription, secret: true},
		"deleteNotificationChannelSubscription":       {handle: s.remove},
	}
}

// subscriptionView is Subscription. It never has the sink's credential.
type subscriptionView struct {
	Protocol  string     `json:"protocol"`
	Sink      string     `json:"sink"`
	Types     []string   `json:"types"`
	Config    configView `json:"config"`
	ID        string     `json:"id"`
	StartsAt  string     `json:"startsAt"`
	ExpiresAt string     `json:"expiresAt,omitempty"`
	Status    string     `json:"status"`
}

type configView struct {
	SubscriptionDetail     json.RawMessage `json:"subscriptionDetail"`
	SubscriptionExpireTime string          `json:"subscriptionExpireTime,omitempty"`
	SubscriptionMaxEvents  int             `json:"subscriptionMaxEvents,omitempty"`
	InitialEvent           *bool           `json:"initialEvent,omitempty"`
}

// viewSubscription shows a subscription in the spelling of the generation that it
// was made through, whichever it is asked for through, since its events come in
// that spelling.
func viewSubscription(s call.Subscription) subscriptionView {
	d := dialectOf(s.Generation)
	v := subscriptionView{
		Protocol: "HTTP",
		Sink:     s.Sink.URL,
		Config: configView{
			SubscriptionDetail:     s.Echo,
			SubscriptionExpireTime: maybeInstant(s.RequestedExpiry),
			SubscriptionMaxEvents:  s.MaxEvents,
			InitialEvent:           s.InitialEvent,
		},
		ID:        s.ID,
		StartsAt:  instant(s.StartsAt),
		ExpiresAt: maybeInstant(&s.ExpiresAt),
		Status:    string(s.State),
	}
	if !json.Valid(s.Echo) {
		v.Config.SubscriptionDetail, _ = json.Marshal(map[string]string{"deviceId": s.DeviceID})
	}
	for _, t := range s.Types {
		v.Types = append(v.Types, d.typeName(t))
	}
	return v
}

func (s subscriptions) create(ctx context.Context, x *exchange) (answer, error) {
	request, err := s.request(x)
	if err != nil {
		return answer{}, err
	}
	detail := x.body.object("config").object("subscriptionDetail")
	shown := "deviceId"
	if !detail.has(shown) {
		shown = "registrationId"
		request.RegistrationID = foldUUID(detail.text(shown))
	}
	request.DeviceID = foldUUID(detail.text("deviceId"))
	return s.subscribe(ctx, x, request, shown)
}

// request reads what all generations have in common. The scopes of the types are
// judged first.
func (s subscriptions) request(x *exchange) (r gateway.SubscribeRequest, err error) {
	r.Generation = s.dialect.generation
	if r.Types, err = s.types(x); err != nil {
		return r, err
	}
	config := x.body.object("config")
	if r.Expires, err = config.time("subscriptionExpireTime"); err != nil {
		return r, err
	}
	r.MaxEvents = int(config.number("subscriptionMaxEvents"))
	if v, ok := config["initialEvent"].(bool); ok {
		r.InitialEvent = &v
	}
	r.Sink.URL = x.body.text("sink")
	if x.body.has("sinkCredential") {
		r.Sink.AccessToken, r.Sink.AccessTokenExpires, err = credential(x.body.object("sinkCredential"))
	}
	return r, err
}

// types reads the event types, each once; the token needs the scope of each.
func (s subscriptions) types(x *exchange) ([]call.EventType, error) {
	var types []call.EventType
	for _, name := range x.body.texts("types") {
		t, ok := s.dialect.eventType(name)
		if !ok {
			return nil, refuse(call.InvalidArgument, "types: %s is not an event type of this API.", clip(name))
		}
		if scope := s.dialect.createScope(name); !x.principal.Has(scope) {
			return nil, lacksScope([]string{scope})
		}
		if !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	return types, nil
}

func credential(o object) (token string, expires time.Time, err error) {
	at, err := o.time("accessTokenExpiresUtc")
	if err != nil {
		return "", time.Time{}, err
	}
	return o.text("accessToken"), *at, nil
}

// subscribe echoes the named properties of the detail from now on.
func (s subscriptions) subscribe(ctx context.Context, x *exchange, r gateway.SubscribeRequest, echoed ...string) (answer, error) {
	detail := x.body.object("config").object("subscriptionDetail")
	shown := map[string]any{}
	for _, key := range echoed {
		if detail.has(key) {
			shown[key] = detail[key]
		}
	}
	var err error
	if r.Echo, err = json.Marshal(shown); err != nil {
		return answer{}, err
	}
	subscription, err := s.gateway.Subscribe(ctx, x.principal, r)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, viewSubscription(subscription)}, nil
}

func (s subscriptions) list(ctx context.Context, x *exchange) (answer, error) {
	all, err := s.gateway.Subscriptions(ctx, x.principal)
	if err != nil {
		return answer{}, err
	}
	if most := s.dialect.listed; most > 0 && len(all) > most {
		all = all[:most]
	}
	views := make([]subscriptionView, 0, len(all))
	for _, subscription := range all {
		views = append(views, viewSubscription(subscription))
	}
	return answer{http.StatusOK, views}, nil
}

func (s subscriptions) get(ctx context.Context, x *exchange) (answer, error) {
	subscription, err := s.gateway.Subscription(ctx, x.principal, x.id)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, viewSubscription(subscription)}, nil
}

func (s subscriptions) update(ctx context.Context, x *exchange) (answer, error) {
	var request gateway.UpdateSubscriptionRequest
	var err error
	if request.Expires, err = x.body.object("config").time("subscriptionExpireTime"); err != nil {
		return answer{}, err
	}
	if x.body.has("sinkCredential") {
		token, expires, err := credential(x.body.object("sinkCredential"))
		if err != nil {
			return answer{}, err
		}
		request.AccessToken, request.AccessTokenExpires = &token, &expires
	}
	subscription, err := s.gateway.UpdateSubscription(ctx, x.principal, x.id, request)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, viewSubscription(subscription)}, nil
}

func (s subscriptions) remove(ctx context.Context, x *exchange) (answer, error) {
	if err := s.gateway.Unsubscribe(ctx, x.principal, x.id); err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, nil
}
