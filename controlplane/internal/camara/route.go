package camara

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara/apidoc"
)

// adapter is one API in one generation.
type adapter struct {
	api        string
	generation string
	doc        *apidoc.Document
	// versions are the URL versions that it is served under, the usual one first.
	versions []string
	routes   []*route
}

// route is one operation with what serves it.
type route struct {
	*apidoc.Operation
	adapter  *adapter
	segments []string
	binding
}

// binding is what an adapter ties to an operationId.
type binding struct {
	handle handler
	// precheck sees the body before its shape is checked: some refusals have
	// codes of their own, which win over INVALID_ARGUMENT.
	precheck func(body object) *failure
	// secret: the request body holds secrets and is traced without them.
	secret bool
	// prepare may rewrite the body before it is checked, where a generation
	// takes other forms of it.
	prepare func(x *exchange, body object) *failure
}

// match is where a request belongs.
type match struct {
	*route
	// version as the URL names it.
	version string
	// id in the path; missing when the path has none where one belongs.
	id      string
	missing bool
	// scopes of which one must be granted.
	scopes []string
	// example: the path is one that only published examples have. other is the
	// operation of another generation that the body may turn out to mean.
	example bool
	other   *route
}

// segmentsOf splits a path as it was sent. Nothing is cleaned: an empty segment
// stays one.
func segmentsOf(r *http.Request) []string {
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/")
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if plain, err := url.PathUnescape(s); err == nil {
			segments[i] = plain
		}
	}
	return segments
}

// find looks for the operation that method and the segments below the version
// name. Without one, allow lists the methods that the path has, if any.
func find(routes []*route, method string, segments []string) (found *route, id string, missing bool, allow []string) {
	exact, lacking := map[string]bool{}, map[string]bool{}
	for _, r := range routes {
		id, kind := r.matches(segments)
		if kind == noMatch {
			continue
		}
		if kind == withoutID {
			lacking[r.Method] = true
			if r.Method == method && found == nil {
				found, missing = r, true
			}
			continue
		}
		exact[r.Method] = true
		if r.Method == method {
			return r, id, false, nil
		}
	}
	if found != nil {
		return found, "", missing, nil
	}
	if len(exact) == 0 {
		exact = lacking
	}
	return nil, "", false, slices.Sorted(maps.Keys(exact))
}

type matchKind int

const (
	noMatch matchKind = iota
	withID
	withoutID
)

// matches compares a path with the template. A path that lacks the template's id,
// whether empty, left out or cut off there, matches without it.
func (r *route) matches(segments []string) (id string, kind matchKind) {
	hole := slices.IndexFunc(r.segments, isParameter)
	if hole < 0 {
		if slices.Equal(r.segments, segments) {
			return "", withID
		}
		return "", noMatch
	}
	before, after := r.segments[:hole], r.segments[hole+1:]
	if len(segments) == len(r.segments) && slices.Equal(segments[:hole], before) && slices.Equal(segments[hole+1:], after) {
		if segments[hole] == "" {
			return "", withoutID
		}
		return segments[hole], withID
	}
	switch {
	case slices.Equal(segments, before), slices.Equal(segments, append(slices.Clone(before), "")):
		return "", withoutID
	case slices.Equal(segments, slices.Concat(before, after)):
		return "", withoutID
	}
	return "", noMatch
}

func isParameter(segment string) bool { return strings.HasPrefix(segment, "{") }

// parameterName is the name of the template's id, "registrationId" for instance.
func (r *route) parameterName() string {
	if i := slices.IndexFunc(r.segments, isParameter); i >= 0 {
		return strings.Trim(r.segments[i], "{}")
	}
	return ""
}
