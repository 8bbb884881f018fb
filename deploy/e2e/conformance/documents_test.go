package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
)

// documents are the OpenAPI documents that a gateway serves, by the path of their
// server.
type documents struct{ byServer map[string]*openapi3.T }

func fetchDocuments(t *testing.T, g *gateway) *documents {
	t.Helper()
	d := &documents{byServer: map[string]*openapi3.T{}}
	var list []struct{ Server, JSON string }
	if err := json.Unmarshal(fetch(t, g, "/openapi/index.json"), &list); err != nil {
		t.Fatalf("the list of documents: %v", err)
	}
	for _, entry := range list {
		spec, err := openapi3.NewLoader().LoadFromData(fetch(t, g, entry.JSON))
		if err != nil {
			t.Fatalf("the document of %s: %v", entry.Server, err)
		}
		d.byServer[entry.Server] = spec
	}
	return d
}

func fetch(t *testing.T, g *gateway, path string) []byte {
	t.Helper()
	r, err := g.client.Get(g.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", path, r.Status, err)
	}
	return text
}

// respelt leads the paths of examples to those of their documents.
func respelt(path, prefix string) string {
	if rest, ok := strings.CutPrefix(path, "/webrtc-events-suscription/"); ok {
		version, rest, _ := strings.Cut(rest, "/")
		switch {
		case version == "v0.2":
			return "/webrtc-events/v0.2/" + rest
		case prefix == r31.prefix:
			return "/webrtc-events-subscriptions/v0.3/" + rest
		}
		return "/webrtc-events/v0.3/" + rest
	}
	if api, ok := strings.CutSuffix(path, "/subscriptions"); ok && strings.HasPrefix(path, "/webrtc-registration/") {
		return api + "/sessions"
	}
	return path
}

// operation that a request belongs to; nil for none.
func (d *documents) operation(method, path string) *openapi3.Operation {
	for server, spec := range d.byServer {
		rest, ok := strings.CutPrefix(path, server+"/")
		if !ok {
			continue
		}
		for template, item := range spec.Paths.Map() {
			if fits(template, "/"+rest) {
				return item.GetOperation(method)
			}
		}
	}
	return nil
}

func fits(template, path string) bool {
	want, have := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(have) {
		return false
	}
	for i := range want {
		hole := strings.HasPrefix(want[i], "{")
		if hole && have[i] == "" || !hole && want[i] != have[i] {
			return false
		}
	}
	return true
}

var correlator = regexp.MustCompile(`^[a-zA-Z0-9\-_:;./<>{}]{1,256}$`)

// check holds an answer against the rules of all answers and its document.
func (d *documents) check(a *answer, prefix string) error {
	if c := a.header.Values("X-Correlator"); len(c) != 1 || !correlator.MatchString(c[0]) {
		return fmt.Errorf("x-correlator of the answer is %q", c)
	}
	if a.status == http.StatusNoContent {
		if len(a.text) > 0 {
			return fmt.Errorf("a 204 has a body: %q", a.text)
		}
		return nil
	}
	if t := a.header.Get("Content-Type"); t != "application/json" {
		return fmt.Errorf("Content-Type is %q", t)
	}
	if a.err != nil {
		return fmt.Errorf("the body is no JSON: %w: %q", a.err, a.text)
	}
	if a.status >= 400 {
		if err := checkErrorInfo(a); err != nil {
			return err
		}
	}
	path := respelt(a.path, prefix)
	op := d.operation(a.method, path)
	if op == nil {
		if a.status < 400 {
			return fmt.Errorf("%s %s belongs to no operation but succeeds", a.method, path)
		}
		return nil
	}
	response := op.Responses.Status(a.status)
	if response == nil {
		response = op.Responses.Default()
	}
	if response == nil {
		return fmt.Errorf("status %d of %s is not documented", a.status, op.OperationID)
	}
	if response.Value.Headers["x-correlator"] == nil {
		return fmt.Errorf("x-correlator of status %d of %s is not documented", a.status, op.OperationID)
	}
	media := response.Value.Content.Get("application/json")
	if media == nil {
		return fmt.Errorf("status %d of %s has a body that is not documented", a.status, op.OperationID)
	}
	if err := visit(media.Schema.Value, a.body, openapi3.VisitAsResponse()); err != nil {
		return fmt.Errorf("the answer %d of %s differs from its document: %w\n%s", a.status, op.OperationID, err, a.text)
	}
	return nil
}

var errorCode = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,95}$`)

func checkErrorInfo(a *answer) error {
	e, ok := a.body.(map[string]any)
	if !ok {
		return fmt.Errorf("the error is no object: %s", a.text)
	}
	code, _ := e["code"].(string)
	message, _ := e["message"].(string)
	switch {
	case e["status"] != float64(a.status):
		return fmt.Errorf("the error says status %v in an answer with %d", e["status"], a.status)
	case !errorCode.MatchString(code):
		return fmt.Errorf("the error's code is %q", code)
	case message == "" || len([]rune(message)) > 512:
		return fmt.Errorf("the error's message is %q", message)
	case a.status == http.StatusUnauthorized && a.header.Get("WWW-Authenticate") == "":
		return errors.New("a 401 lacks WWW-Authenticate")
	case a.status == http.StatusMethodNotAllowed && a.header.Get("Allow") == "":
		return errors.New("a 405 lacks Allow")
	}
	return nil
}

// checkEvent holds a CloudEvent against the document of a generation.
func (d *documents) checkEvent(g generation, event any) error {
	server := strings.TrimSuffix(g.subscriptions, "/subscriptions")
	spec := d.byServer[server]
	if spec == nil {
		return fmt.Errorf("there is no document of %s", server)
	}
	return visit(spec.Components.Schemas["Event"].Value, event)
}

func visit(schema *openapi3.Schema, value any, more ...openapi3.SchemaValidationOption) error {
	options := append([]openapi3.SchemaValidationOption{
		openapi3.MultiErrors(), openapi3.WithStringFormatValidators(formats),
	}, more...)
	return schema.VisitJSON(value, options...)
}

// instant is how the gateway writes times: UTC with milliseconds.
var instant = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)

var address = regexp.MustCompile(`^(tel:\+[1-9][0-9]{4,14}|tel:[0-9*#]{1,15};phone-context=.+|sip:[^@\s]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}(;user=phone)?|urn:service:sos(\.[a-z0-9-]+)*)$`)

// formats that the documents name, as this suite understands them.
var formats = map[string]openapi3.StringFormatValidator{
	"date-time": openapi3.NewCallbackValidator(func(s string) error {
		if !instant.MatchString(s) {
			return fmt.Errorf("%q is not a time in UTC with milliseconds", s)
		}
		_, err := time.Parse(time.RFC3339, s)
		return err
	}),
	"uuid": openapi3.NewCallbackValidator(func(s string) error {
		_, err := uuid.Parse(s)
		return err
	}),
	"telephony-address": openapi3.NewCallbackValidator(func(s string) error {
		if !address.MatchString(s) {
			return fmt.Errorf("%q is no address", s)
		}
		return nil
	}),
}
