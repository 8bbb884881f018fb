package camara

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/http/httpguts"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// subscriptionsR22 is the events API 0.2: a subscription has one event type and
// belongs to a registration.
type subscriptionsR22 struct{ subscriptions }

func (s subscriptionsR22) bindings() map[string]binding {
	return map[string]binding{
		"createSubscription": {handle: s.create, precheck: checkSubscription, prepare: respellExpiry, secret: true},
		"listSubscriptions":  {handle: s.list},
		"getSubscription":    {handle: s.get},
		"deleteSubscription": {handle: s.remove},
	}
}

// respellExpiry takes the spelling accessTokenExpireUtc of a published example.
func respellExpiry(_ *exchange, body object) *failure {
	credential := body.object("sinkCredential")
	if v, ok := credential["accessTokenExpireUtc"]; ok && !credential.has("accessTokenExpiresUtc") {
		credential["accessTokenExpiresUtc"] = v
	}
	return nil
}

func (s subscriptionsR22) create(ctx context.Context, x *exchange) (answer, error) {
	request, err := s.request(x)
	if err != nil {
		return answer{}, err
	}
	if request.Sink.Headers, err = sinkHeaders(x.body.object("protocolSettings").object("headers")); err != nil {
		return answer{}, err
	}
	detail := x.body.object("config").object("subscriptionDetail")
	request.DeviceID = foldUUID(detail.text("deviceId"))
	if detail.has("registrationId") {
		r, err := s.registration(ctx, x, detail)
		if err != nil {
			return answer{}, err
		}
		request.RegistrationID, request.DeviceID = r.ID, r.DeviceID
	}
	if slices.Contains(request.Types, call.SessionStatus) {
		if request.SessionID, err = s.session(ctx, x, detail, request.RegistrationID); err != nil {
			return answer{}, err
		}
	}
	if request.Echo, err = echo(detail, "registrationId", "deviceId", "sessionId", "mediaSessionId"); err != nil {
		return answer{}, err
	}
	return s.subscribe(ctx, x, request)
}

// session that the detail names, if any; it must be one of the registration.
func (s subscriptionsR22) session(ctx context.Context, x *exchange, detail object, registration string) (string, error) {
	key := "sessionId"
	if !detail.has(key) {
		key = "mediaSessionId"
	}
	id := foldUUID(detail.text(key))
	if id == "" {
		return "", nil
	}
	m, err := s.gateway.Session(ctx, x.principal, id)
	switch {
	case call.CodeOf(err) == call.NotFound, err == nil && registration != "" && m.RegistrationID != registration:
		return "", refuse(call.SubscriptionMismatch, "%s is not a session of the registration.", key)
	case err != nil:
		return "", err
	}
	return m.ID, nil
}

// registration that the detail names, for the caller's token.
func (s subscriptions) registration(ctx context.Context, x *exchange, detail object) (call.Registration, error) {
	r, err := s.gateway.Registration(ctx, x.principal, foldUUID(detail.text("registrationId")))
	switch {
	case call.CodeOf(err) == call.NotFound:
		return r, refuse(call.SubscriptionMismatch, "registrationId is not a registration of this subscriber and application.")
	case err != nil:
		return r, err
	case detail.has("deviceId") && foldUUID(detail.text("deviceId")) != r.DeviceID:
		return r, refuse(call.InvalidArgument, "config.subscriptionDetail.deviceId is not the device of registrationId.")
	}
	return r, nil
}

// echo is what of a subscription's detail is shown again.
func echo(detail object, keys ...string) ([]byte, error) {
	shown := map[string]any{}
	for _, k := range keys {
		if v, ok := detail[k]; ok {
			shown[k] = v
		}
	}
	return json.Marshal(shown)
}

// ownHeaders are set by the gateway or belong to one connection, so that a
// subscription cannot set them.
var ownHeaders = []string{
	"Authorization", "Connection", "Host", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", correlatorHeader,
}

// sinkHeaders reads the header fields that go with every event.
func sinkHeaders(o object) (map[string]string, error) {
	headers := map[string]string{}
	for name, v := range o {
		value, _ := v.(string)
		if !httpguts.ValidHeaderFieldName(name) || strings.ContainsFunc(value, unicode.IsControl) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, refuse(call.InvalidArgument, "protocolSettings.headers: %q is not a header field that can be sent.", clip(name))
		}
		name = http.CanonicalHeaderKey(name)
		if strings.HasPrefix(name, "Content-") || slices.Contains(ownHeaders, name) {
			continue
		}
		headers[name] = value
	}
	if len(headers) == 0 {
		return nil, nil
	}
	return headers, nil
}
