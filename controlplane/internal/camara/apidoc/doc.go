// Package apidoc holds the OpenAPI documents of the APIs that the gateway offers,
// one per API and generation, and answers questions by them: which operations
// there are, which scopes they take, whether a request or an answer has the
// documented shape. The same documents are served to integrators, with a page to
// read and try them, so what is documented is what is checked.
package apidoc

import (
	"context"
	"embed"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/oasdiff/yaml"
)

//go:embed spec/*.yaml
var specs embed.FS

// Document is one API in one generation.
type Document struct {
	// API is the name in the URL, "webrtc-registration" for instance.
	API string
	// Generation names the CAMARA release, "r3.1" for instance.
	Generation string
	// Title and Version as the document states them.
	Title   string
	Version string

	text       []byte
	asJSON     []byte
	server     string
	spec       *openapi3.T
	operations []*Operation
}

// Operation is one method of one path.
type Operation struct {
	ID      string
	Method  string
	Summary string
	// Path is the template below the server URL: "/sessions/{registrationId}".
	Path string
	// Scopes of which one must be granted.
	Scopes []string
	// BodyRequired and BodyAllowed: both false for an operation without body.
	BodyRequired bool
	BodyAllowed  bool

	body       *openapi3.Schema
	parameters map[string]*openapi3.Parameter
	responses  *openapi3.Responses
}

// Load reads the embedded document spec/{api}.{generation}.yaml.
func Load(api, generation string) (*Document, error) {
	name := "spec/" + api + "." + generation + ".yaml"
	text, err := specs.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the document of %s in generation %s: %w", api, generation, err)
	}
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, fmt.Errorf("convert %s to JSON: %w", name, err)
	}
	loader := openapi3.NewLoader()
	spec, err := loader.LoadFromData(asJSON)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", name, err)
	}
	if err := spec.Validate(context.Background()); err != nil {
		return nil, fmt.Errorf("validate %s: %w", name, err)
	}
	if len(spec.Servers) != 1 {
		return nil, fmt.Errorf("load %s: it must name one server", name)
	}
	d := &Document{
		API:        api,
		Generation: generation,
		Title:      spec.Info.Title,
		Version:    spec.Info.Version,
		text:       text,
		asJSON:     asJSON,
		server:     spec.Servers[0].URL,
		spec:       spec,
	}
	for path, item := range spec.Paths.Map() {
		for method, op := range item.Operations() {
			d.operations = append(d.operations, newOperation(path, method, item, op))
		}
	}
	slices.SortFunc(d.operations, func(a, b *Operation) int {
		return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method)
	})
	return d, nil
}

func newOperation(path, method string, item *openapi3.PathItem, op *openapi3.Operation) *Operation {
	o := &Operation{
		ID:         op.OperationID,
		Method:     method,
		Summary:    op.Summary,
		Path:       path,
		parameters: map[string]*openapi3.Parameter{},
		responses:  op.Responses,
	}
	for _, p := range slices.Concat(item.Parameters, op.Parameters) {
		o.parameters[p.Value.Name] = p.Value
	}
	if op.Security != nil {
		for _, alternative := range *op.Security {
			for _, scopes := range alternative {
				o.Scopes = append(o.Scopes, scopes...)
			}
		}
	}
	if op.RequestBody != nil {
		body := op.RequestBody.Value
		o.BodyAllowed, o.BodyRequired = true, body.Required
		if media := body.Content.Get("application/json"); media != nil {
			o.body = media.Schema.Value
		}
	}
	return o
}

// Operations of the document, sorted by path and method.
func (d *Document) Operations() []*Operation { return d.operations }

var serverLine = regexp.MustCompile(`(?m)^(  - url: )\S+$`)

const exampleIssuer = "https://example.com/.well-known/openid-configuration"

// YAML is the document's text with the path that it is served under and, when
// given, the address of the authorization server's metadata.
func (d *Document) YAML(server, openIDConfiguration string) []byte {
	text := serverLine.ReplaceAll(d.text, []byte("${1}"+server))
	if openIDConfiguration != "" {
		text = []byte(strings.ReplaceAll(string(text), exampleIssuer, openIDConfiguration))
	}
	return text
}

// JSON is the same document as JSON.
func (d *Document) JSON(server, openIDConfiguration string) []byte {
	text := strings.Replace(string(d.asJSON), strconv.Quote(d.server), strconv.Quote(server), 1)
	if openIDConfiguration != "" {
		text = strings.ReplaceAll(text, exampleIssuer, openIDConfiguration)
	}
	return []byte(text)
}

// Parameter is a query, header or path parameter of an operation.
type Parameter struct {
	Name string
	// In is "query", "header" or "path".
	In       string
	Required bool
}

// Place names the kind of parameter in a sentence.
func (p Parameter) Place() string {
	switch p.In {
	case "header":
		return "header field"
	case "query":
		return "query parameter"
	}
	return "path parameter"
}

// Parameters of the operation, sorted by name.
func (o *Operation) Parameters() []Parameter {
	list := make([]Parameter, 0, len(o.parameters))
	for _, p := range o.parameters {
		list = append(list, Parameter{Name: p.Name, In: p.In, Required: p.Required})
	}
	slices.SortFunc(list, func(a, b Parameter) int { return strings.Compare(a.Name, b.Name) })
	return list
}
