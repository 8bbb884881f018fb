package apidoc_test

import (
	"encoding/json"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/camara/apidoc"
)

func site(t *testing.T, login apidoc.Login) *apidoc.Site {
	t.Helper()
	var pages []apidoc.Page
	for _, d := range all(t) {
		pages = append(pages, apidoc.Page{Document: d, Version: d.Generation}, apidoc.Page{Document: d, Version: "alias-" + d.Generation, Alias: true})
	}
	s, err := apidoc.NewSite(pages, login)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func get(t *testing.T, s *apidoc.Site, path string) (contentType, body string, found bool) {
	t.Helper()
	w := httptest.NewRecorder()
	found = s.Serve(w, httptest.NewRequest("GET", path, nil))
	return w.Header().Get("Content-Type"), w.Body.String(), found
}

func TestSite(t *testing.T) {
	s := site(t, apidoc.Login{OpenIDConfiguration: "https://as.example.org/.well-known/openid-configuration", ClientID: "docs"})
	for path, contentType := range map[string]string{
		"/openapi":                                 "text/html; charset=utf-8",
		"/openapi/":                                "text/html; charset=utf-8",
		"/openapi/index.json":                      "application/json",
		"/openapi/page.js":                         "text/javascript; charset=utf-8",
		"/openapi/callback":                        "text/html; charset=utf-8",
		"/openapi/page.css":                        "text/css; charset=utf-8",
		"/openapi/webrtc-registration/r3.1":        "text/html; charset=utf-8",
		"/openapi/webrtc-registration/r3.1.json":   "application/json",
		"/openapi/webrtc-registration/r3.1.yaml":   "application/yaml",
		"/openapi/webrtc-events/alias-r2.2.yaml":   "application/yaml",
		"/openapi/webrtc-call-handling/r2.2.json":  "application/json",
		"/openapi/webrtc-events/main-2026-06.json": "application/json",
	} {
		got, body, found := get(t, s, path)
		if !found || got != contentType || body == "" {
			t.Errorf("%s: %t, %q, %d bytes", path, found, got, len(body))
		}
	}
	for _, path := range []string{"/", "/openapi/nothing", "/openapix", "/openapi/webrtc-registration", "/openapi/page"} {
		if _, _, found := get(t, s, path); found {
			t.Errorf("%s was found", path)
		}
	}
	if w := httptest.NewRecorder(); !s.Serve(w, httptest.NewRequest("HEAD", "/openapi/", nil)) || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "" {
		t.Errorf("HEAD: %v", w)
	}
}

// Both forms of a served document are the same valid document, with its own path.
func TestServedDocuments(t *testing.T) {
	const metadata = "https://as.example.org/.well-known/openid-configuration"
	s := site(t, apidoc.Login{OpenIDConfiguration: metadata})
	for _, d := range all(t) {
		server := "/" + d.API + "/alias-" + d.Generation
		var texts [2]string
		for i, form := range []string{".yaml", ".json"} {
			_, body, _ := get(t, s, "/openapi"+server+form)
			spec, err := openapi3.NewLoader().LoadFromData([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			if err := spec.Validate(t.Context()); err != nil {
				t.Error(err)
			}
			if got := spec.Servers[0].URL; got != server {
				t.Errorf("%s%s names the server %s", server, form, got)
			}
			if got := spec.Components.SecuritySchemes["openId"].Value.OpenIdConnectUrl; got != metadata {
				t.Errorf("%s%s names the authorization server %s", server, form, got)
			}
			data, err := json.Marshal(spec)
			if err != nil {
				t.Fatal(err)
			}
			texts[i] = string(data)
		}
		if texts[0] != texts[1] {
			t.Errorf("%s: YAML and JSON differ", server)
		}
	}
}

// The pages load nothing from elsewhere and run no script of their own.
func TestPagesStandAlone(t *testing.T) {
	s := site(t, apidoc.Login{})
	for _, path := range []string{"/openapi/", "/openapi/webrtc-registration/r3.1", "/openapi/page.js", "/openapi/page.css"} {
		_, body, _ := get(t, s, path)
		if strings.Contains(body, "http://") || strings.Contains(body, "https://") || strings.Contains(body, "innerHTML") {
			t.Errorf("%s refers to elsewhere or writes markup", path)
		}
		if regexp.MustCompile(`<script>|<style|\son\w+=|javascript:`).MatchString(body) {
			t.Errorf("%s has something inline", path)
		}
	}
}

func TestIndex(t *testing.T) {
	s := site(t, apidoc.Login{})
	_, body, _ := get(t, s, "/openapi/index.json")
	var list []map[string]string
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 2*len(all(t)) {
		t.Errorf("%d documents are listed", len(list))
	}
	for _, entry := range list {
		for _, form := range []string{"yaml", "json"} {
			if _, _, found := get(t, s, entry[form]); !found {
				t.Errorf("the listed %s is not there", entry[form])
			}
		}
	}
	_, page, _ := get(t, s, "/openapi/")
	for _, link := range regexp.MustCompile(`href="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if _, _, found := get(t, s, link[1]); !found {
			t.Errorf("a dead link: %s", link[1])
		}
	}
}

// What all documents have in common is the same in all.
func TestCommonParts(t *testing.T) {
	var first map[string]any
	for _, d := range all(t) {
		var doc map[string]any
		if err := json.Unmarshal(d.JSON("", ""), &doc); err != nil {
			t.Fatal(err)
		}
		components := doc["components"].(map[string]any)
		common := map[string]any{
			"headers":         components["headers"],
			"securitySchemes": components["securitySchemes"],
			"correlator":      components["parameters"].(map[string]any)["x-correlator"],
			"Unauthenticated": components["responses"].(map[string]any)["Unauthenticated"],
			"Other":           components["responses"].(map[string]any)["Other"],
			"ErrorInfo":       components["schemas"].(map[string]any)["ErrorInfo"],
			"Correlator":      components["schemas"].(map[string]any)["Correlator"],
		}
		if first == nil {
			first = common
		}
		if !reflect.DeepEqual(common, first) {
			t.Errorf("%s %s differs from the first document", d.API, d.Generation)
		}
	}
}
