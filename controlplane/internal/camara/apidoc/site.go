package apidoc

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
)

// Page is a document as it is served under one version of its API.
type Page struct {
	Document *Document
	// Version in the URL, "v0.4" for instance.
	Version string
	// Alias: the document is usually served under another version.
	Alias bool
}

func (p Page) server() string { return "/" + p.Document.API + "/" + p.Version }

// Login tells the pages where tokens come from.
type Login struct {
	// OpenIDConfiguration is the URL of the authorization server's metadata;
	// empty when not known.
	OpenIDConfiguration string
	// ClientID of a public client that may use the authorization code flow with
	// PKCE from the pages, with the redirect URI {origin}/openapi/callback; empty:
	// tokens are pasted.
	ClientID string
}

// Site serves documents and the pages to read and try them. All of it is made
// once, when the site is.
type Site struct{ files map[string]file }

type file struct {
	contentType string
	body        []byte
}

//go:embed page/index.html
var indexPage string

//go:embed page/page.html
var tryPage string

//go:embed page/callback.html
var callbackPage []byte

//go:embed page/page.js
var script []byte

//go:embed page/page.css
var style []byte

// NewSite prepares /openapi/, /openapi/{api}/{version} and the documents below it
// as .yaml and .json.
func NewSite(pages []Page, login Login) (*Site, error) {
	s := &Site{files: map[string]file{
		"/openapi/page.js":  {"text/javascript; charset=utf-8", script},
		"/openapi/page.css": {"text/css; charset=utf-8", style},
		"/openapi/callback": {"text/html; charset=utf-8", callbackPage},
	}}
	try, err := template.New("page").Parse(tryPage)
	if err != nil {
		return nil, fmt.Errorf("parse the page of a document: %w", err)
	}
	for _, p := range pages {
		base := "/openapi" + p.server()
		s.files[base+".json"] = file{"application/json", p.Document.JSON(p.server(), login.OpenIDConfiguration)}
		s.files[base+".yaml"] = file{"application/yaml", p.Document.YAML(p.server(), login.OpenIDConfiguration)}
		var page bytes.Buffer
		if err := try.Execute(&page, map[string]any{"Title": p.Document.Title, "Version": p.Version, "Document": base + ".json", "Login": login}); err != nil {
			return nil, fmt.Errorf("write the page of %s: %w", base, err)
		}
		s.files[base] = file{"text/html; charset=utf-8", page.Bytes()}
	}
	index, err := newIndex(pages)
	if err != nil {
		return nil, err
	}
	s.files["/openapi/"] = index
	s.files["/openapi"] = index
	return s, s.addList(pages)
}

func newIndex(pages []Page) (file, error) {
	t, err := template.New("index").Parse(indexPage)
	if err != nil {
		return file{}, fmt.Errorf("parse the index of documents: %w", err)
	}
	type row struct{ API, Title, Version, Generation, Base string }
	var rows, aliases []row
	for _, p := range pages {
		r := row{p.Document.API, p.Document.Title, p.Version, p.Document.Generation, "/openapi" + p.server()}
		if p.Alias {
			aliases = append(aliases, r)
		} else {
			rows = append(rows, r)
		}
	}
	var b bytes.Buffer
	if err := t.Execute(&b, map[string]any{"Rows": rows, "Aliases": aliases}); err != nil {
		return file{}, fmt.Errorf("write the index of documents: %w", err)
	}
	return file{"text/html; charset=utf-8", b.Bytes()}, nil
}

// addList adds the list of documents for programs.
func (s *Site) addList(pages []Page) error {
	type entry struct {
		API        string `json:"api"`
		Version    string `json:"version"`
		Generation string `json:"generation"`
		Server     string `json:"server"`
		YAML       string `json:"yaml"`
		JSON       string `json:"json"`
	}
	list := []entry{}
	for _, p := range pages {
		base := "/openapi" + p.server()
		list = append(list, entry{p.Document.API, p.Version, p.Document.Generation, p.server(), base + ".yaml", base + ".json"})
	}
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return fmt.Errorf("list the documents: %w", err)
	}
	s.files["/openapi/index.json"] = file{"application/json", data}
	return nil
}

// contentPolicy keeps the pages from loading anything from elsewhere. Tokens come
// from, and requests go to, servers that only the reader's configuration knows.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src *; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Serve answers a GET or HEAD for a page or document; false when there is nothing
// at the path, in which case nothing has been written.
func (s *Site) Serve(w http.ResponseWriter, r *http.Request) bool {
	if !strings.HasPrefix(r.URL.Path, "/openapi") {
		return false
	}
	f, ok := s.files[r.URL.Path]
	if !ok {
		return false
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Length", strconv.Itoa(len(f.body)))
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(f.body)
	}
	return true
}
