package camara

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
)

const redacted = "[redacted]"

// traceRequest puts the request on the ladder, once, before its use case runs, so
// that what it causes stands after it.
func (a *API) traceRequest(x *exchange) {
	if a.deps.Tracer == nil || x.traced {
		return
	}
	x.traced = true
	r := x.request
	target := r.URL.RequestURI()
	a.deps.Tracer.Trace(gateway.TraceEntry{
		Time:   x.start,
		From:   gateway.ActorDevice,
		To:     gateway.ActorGateway,
		Number: x.number,
		Title:  r.Method + " " + r.URL.Path,
		Text:   message(fmt.Sprintf("%s %s %s", r.Method, target, r.Proto), r.Header, x.tracedBody()),
	})
}

func (a *API) traceAnswer(x *exchange, status int, header http.Header, body []byte) {
	if a.deps.Tracer == nil {
		return
	}
	a.traceRequest(x)
	line := fmt.Sprintf("%d %s", status, http.StatusText(status))
	a.deps.Tracer.Trace(gateway.TraceEntry{
		Time:   a.deps.Clock(),
		From:   gateway.ActorGateway,
		To:     gateway.ActorDevice,
		Number: x.number,
		CallID: x.callID,
		Title:  line,
		Text:   message("HTTP/1.1 "+line, header, string(body)),
	})
}

// tracedBody is the request's body without its secrets.
func (x *exchange) tracedBody() string {
	switch {
	case len(x.raw) == 0:
		return ""
	case x.route == nil || !x.secret:
		return string(x.raw)
	case x.body == nil:
		return fmt.Sprintf("(%d bytes that are not shown)", len(x.raw))
	}
	shown := object(maps.Clone(x.body))
	if credential := shown.object("sinkCredential"); credential != nil {
		credential = maps.Clone(credential)
		for key := range credential {
			if !slices.Contains([]string{"credentialType", "accessTokenType", "accessTokenExpiresUtc", "accessTokenExpireUtc"}, key) {
				credential[key] = redacted
			}
		}
		shown["sinkCredential"] = map[string]any(credential)
	}
	if settings := shown.object("protocolSettings"); settings.has("headers") {
		settings = maps.Clone(settings)
		settings["headers"] = redacted
		shown["protocolSettings"] = map[string]any(settings)
	}
	text, err := encode(shown)
	if err != nil {
		return redacted
	}
	return string(text)
}

// message writes an HTTP message, header fields in order of their names.
func message(first string, header http.Header, body string) string {
	var b strings.Builder
	b.WriteString(first + "\r\n")
	for _, key := range slices.Sorted(maps.Keys(header)) {
		for _, v := range header[key] {
			if key == "Authorization" || key == "Dpop" || key == "Cookie" {
				scheme, _, _ := strings.Cut(v, " ")
				if v = redacted; key == "Authorization" && len(scheme) < 12 {
					v = scheme + " " + redacted
				}
			}
			b.WriteString(key + ": " + v + "\r\n")
		}
	}
	b.WriteString("\r\n" + body)
	return b.String()
}
