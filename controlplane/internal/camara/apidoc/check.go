package apidoc

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Violation is one way in which a value differs from its documented shape. It
// never holds the value, which may be secret.
type Violation struct {
	// Path of the property, outermost first; empty for the whole value.
	Path []string
	// Rule is the schema keyword: "required", "properties" (an unknown one),
	// "type", "enum", "maxLength", "format" …
	Rule string
	// Reason in words that go on from the path: "is required".
	Reason string
}

// Field is the path with dots, "config.subscriptionDetail.deviceId".
func (v Violation) Field() string { return strings.Join(v.Path, ".") }

func (v Violation) String() string {
	if len(v.Path) == 0 {
		return "The body " + v.Reason
	}
	return v.Field() + " " + v.Reason
}

// CheckBody checks a request body, read from JSON, against the document.
func (o *Operation) CheckBody(body map[string]any) []Violation {
	if o.body == nil {
		return nil
	}
	return check(o.body, body)
}

// CheckParameter checks a path, query or header parameter; unknown ones pass.
func (o *Operation) CheckParameter(name, value string) []Violation {
	p := o.parameters[name]
	if p == nil || p.Schema == nil {
		return nil
	}
	violations := check(p.Schema.Value, value)
	for i := range violations {
		violations[i].Path = append([]string{name}, violations[i].Path...)
	}
	return violations
}

// CheckResponse checks an answer: its status must be documented, its body, nil
// for none, must have the shape that the document states for it.
func (o *Operation) CheckResponse(status int, body any) []Violation {
	response := o.responses.Status(status)
	if response == nil {
		response = o.responses.Default()
	}
	if response == nil {
		return []Violation{{Rule: "status", Reason: fmt.Sprintf("the status %d is not documented for %s", status, o.ID)}}
	}
	media := response.Value.Content.Get("application/json")
	switch {
	case media == nil && body == nil:
		return nil
	case media == nil:
		return []Violation{{Rule: "body", Reason: fmt.Sprintf("the status %d of %s has no body", status, o.ID)}}
	}
	return check(media.Schema.Value, body, openapi3.VisitAsResponse())
}

// CheckSchema checks a value against a named schema of the document; an unknown
// name is a violation.
func (d *Document) CheckSchema(name string, value any) []Violation {
	schema := d.spec.Components.Schemas[name]
	if schema == nil {
		return []Violation{{Rule: "schema", Reason: "there is no schema " + name}}
	}
	return check(schema.Value, value)
}

func check(schema *openapi3.Schema, value any, more ...openapi3.SchemaValidationOption) []Violation {
	options := append([]openapi3.SchemaValidationOption{
		openapi3.MultiErrors(),
		openapi3.DisableSchemaErrorDetails(),
		openapi3.WithStringFormatValidators(formats),
	}, more...)
	err := schema.VisitJSON(value, options...)
	if err == nil {
		return nil
	}
	return violations(err, nil)
}

// violations flattens kin-openapi's errors.
func violations(err error, found []Violation) []Violation {
	var several openapi3.MultiError
	var one *openapi3.SchemaError
	switch {
	case asMulti(err, &several):
		for _, e := range several {
			found = violations(e, found)
		}
		return found
	case errors.As(err, &one):
		return append(found, Violation{Path: one.JSONPointer(), Rule: one.SchemaField, Reason: reason(one)})
	}
	return append(found, Violation{Rule: "schema", Reason: "does not have the documented shape"})
}

// asMulti looks at err itself only: MultiError.As would look into its elements.
func asMulti(err error, target *openapi3.MultiError) bool {
	m, ok := err.(openapi3.MultiError)
	if ok {
		*target = m
	}
	return ok
}

func reason(e *openapi3.SchemaError) string {
	switch e.SchemaField {
	case "required":
		return "is required"
	case "properties":
		return "has the " + strings.Replace(e.Reason, "is unsupported", "which is not part of this API", 1)
	case "pattern":
		return "must match " + e.Schema.Pattern
	case "format":
		if wanted, ok := wantedForm[e.Schema.Format]; ok {
			return "must be " + wanted
		}
	case "nullable":
		return "must not be null"
	case "minLength":
		if e.Schema.MinLength == 1 {
			return "must not be empty"
		}
		return "must have at least " + strconv.FormatUint(e.Schema.MinLength, 10) + " characters"
	case "maxLength":
		return "must have at most " + strconv.FormatUint(*e.Schema.MaxLength, 10) + " characters"
	case "minProperties":
		return "must not be empty"
	case "oneOf", "anyOf":
		return "does not have one of the documented shapes"
	case "allOf":
		return "does not have the documented shape"
	case "minItems":
		return "must have at least " + strconv.FormatUint(e.Schema.MinItems, 10) + " items"
	case "maxItems":
		return "must have at most " + strconv.FormatUint(*e.Schema.MaxItems, 10) + " items"
	case "enum", "type", "minimum", "maximum":
		return strings.TrimPrefix(strings.TrimPrefix(e.Reason, "value "), "number ")
	}
	return "does not have the documented shape"
}

// formats that the documents name.
var formats = map[string]openapi3.StringFormatValidator{
	"date-time": formatFunc(func(s string) error {
		_, err := ParseTime(s)
		return err
	}),
	"uuid": formatFunc(func(s string) error {
		if !IsUUID(s) {
			return errors.New("not a UUID")
		}
		return nil
	}),
	"telephony-address": formatFunc(func(s string) error {
		_, err := call.ParseAddress(s)
		return err
	}),
}

var wantedForm = map[string]string{
	"date-time":         "an RFC 3339 date and time with its time zone, for example 2030-01-01T12:00:00Z",
	"uuid":              "a UUID",
	"telephony-address": "an address of a documented form, for example tel:+15550100 or sip:user@example.com",
}

type formatFunc func(string) error

// Validate implements openapi3.StringFormatValidator.
func (f formatFunc) Validate(s string) error { return f(s) }

// timeForm is RFC 3339 5.6; package time alone would also take an hour of one
// digit and a decimal comma.
var timeForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// ParseTime reads an RFC 3339 date and time, whose offset is mandatory.
func ParseTime(s string) (time.Time, error) {
	s = strings.ToUpper(s)
	if !timeForm.MatchString(s) {
		return time.Time{}, errors.New("not an RFC 3339 date and time")
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("not an RFC 3339 date and time: %w", err)
	}
	return t, nil
}

// IsUUID accepts the 36 characters of RFC 9562 4 in either case, of any version.
func IsUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
				return false
			}
		}
	}
	return true
}
