package camara

import (
	"context"
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
	request.RegistrationID = foldUUID(detail.text("registrationId"))
	if slices.Contains(request.Types, call.SessionStatus) {
		session := detail.text("sessionId")
		if session == "" {
			session = detail.text("mediaSessionId")
		}
		request.SessionID = foldUUID(session)
	}
	return s.subscribe(ctx, x, request, "registrationId", "deviceId", "sessionId", "mediaSessionId")
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
