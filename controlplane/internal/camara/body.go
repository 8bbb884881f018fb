package camara

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara/apidoc"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara/strictjson"
)

// checkHead checks what precedes the body: id, Accept, query and header fields.
func (x *exchange) checkHead() *failure {
	if name := x.parameterName(); name != "" {
		switch {
		case x.missing:
			return refuse(call.InvalidArgument, "%s is missing in the path.", name)
		case !utf8.ValidString(x.id) || strings.ContainsFunc(x.id, unicode.IsControl):
			return refuse(call.InvalidArgument, "%s in the path holds characters that no id has.", name)
		}
		if v := x.CheckParameter(name, x.id); len(v) > 0 {
			return refuse(call.InvalidArgument, "%s.", v[0])
		}
		x.id = foldUUID(x.id)
	}
	if !acceptsJSON(x.request.Header.Values("Accept")) {
		return refuse(codeNotAcceptable, "Answers are application/json, which Accept excludes.")
	}
	query, err := url.ParseQuery(x.request.URL.RawQuery)
	if err != nil {
		return refuse(call.InvalidArgument, "The query of the URL is not well formed.")
	}
	for _, p := range x.Parameters() {
		switch p.In {
		case "query":
			err := x.checkValues(p, query[p.Name])
			if err != nil {
				return err
			}
		case "header":
			if http.CanonicalHeaderKey(p.Name) == correlatorHeader {
				continue
			}
			if err := x.checkValues(p, x.request.Header.Values(p.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *exchange) checkValues(p apidoc.Parameter, values []string) *failure {
	switch {
	case len(values) == 0 && p.Required:
		return refuse(call.InvalidArgument, "The %s %s is required.", p.Place(), p.Name)
	case len(values) == 0:
		return nil
	case len(values) > 1:
		return refuse(call.InvalidArgument, "The %s %s must occur once.", p.Place(), p.Name)
	case !utf8.ValidString(values[0]) || strings.ContainsFunc(values[0], unicode.IsControl):
		return refuse(call.InvalidArgument, "The %s %s holds characters that it must not.", p.Place(), p.Name)
	}
	if v := x.CheckParameter(p.Name, values[0]); len(v) > 0 {
		return refuse(call.InvalidArgument, "%s.", v[0])
	}
	return nil
}

// acceptsJSON reads Accept header fields (RFC 9110 12.5.1); none accepts all.
func acceptsJSON(fields []string) bool {
	all := strings.TrimSpace(strings.Join(fields, ","))
	if all == "" {
		return true
	}
	quality, precision := 0.0, -1
	for _, part := range strings.Split(all, ",") {
		kind, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		p := -1
		switch kind {
		case "application/json":
			p = 2
		case "application/*":
			p = 1
		case "*/*":
			p = 0
		}
		if p <= precision {
			continue
		}
		precision, quality = p, 1
		if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
			quality = q
		}
	}
	return quality > 0
}

// readBody reads the body of an operation that has one and checks its shape.
func (a *API) readBody(w http.ResponseWriter, x *exchange) *failure {
	if !x.BodyAllowed {
		return nil
	}
	raw, f := a.readAll(w, x.request)
	if f != nil {
		return f
	}
	if len(raw) == 0 {
		if x.BodyRequired {
			return refuse(call.InvalidArgument, "The request needs a body.")
		}
		return nil
	}
	if f := checkContentType(x.request.Header); f != nil {
		return f
	}
	x.raw = raw
	parsed, err := strictjson.Object(raw)
	if err != nil {
		return refuse(call.InvalidArgument, "%s.", capital(err.Error()))
	}
	x.body = object(parsed)
	x.chooseGeneration(x.body)
	if x.prepare != nil {
		if f := x.prepare(x, x.body); f != nil {
			return f
		}
	}
	if x.precheck != nil {
		if f := x.precheck(x.body); f != nil {
			return f
		}
	}
	if v := slices.DeleteFunc(x.CheckBody(x.body), x.tolerates); len(v) > 0 {
		return shapeFailure(v)
	}
	return nil
}

func (a *API) readAll(w http.ResponseWriter, r *http.Request) ([]byte, *failure) {
	tooLarge := func() *failure {
		return refuse(codePayloadTooLarge, "A request body has at most %d bytes.", a.config.MaxBody).with("Connection", "close")
	}
	if r.ContentLength > a.config.MaxBody {
		return nil, tooLarge()
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.config.MaxBody))
	var limit *http.MaxBytesError
	switch {
	case errors.As(err, &limit):
		return nil, tooLarge()
	case err != nil:
		return nil, refuse(call.InvalidArgument, "The body could not be read to its end.")
	}
	return raw, nil
}

func checkContentType(h http.Header) *failure {
	if e := h.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return refuse(codeUnsupportedMediaType, "The body must not have a Content-Encoding.")
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset, has := params["charset"]
	if err != nil || kind != "application/json" || has && !strings.EqualFold(charset, "utf-8") {
		return refuse(codeUnsupportedMediaType, "The body must be application/json in UTF-8.")
	}
	return nil
}

// shapeFailure is the one mapper from schema violations to ErrorInfo.
func shapeFailure(v []apidoc.Violation) *failure {
	message := v[0].String()
	if more := len(v) - 1; more > 0 {
		message += " (and " + strconv.Itoa(more) + " more)"
	}
	return refuse(call.InvalidArgument, "%s.", message)
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
