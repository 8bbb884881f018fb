package softphone

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

// file is a static file, ready to be sent.
type file struct {
	contentType string
	etag        string
	plain       []byte
	zipped      []byte
}

var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
	".json": "application/json",
}

// Handler serves the page and settings.json. It answers at the root it is
// mounted at: with a prefix, mount it by http.StripPrefix and a path that ends
// with a slash. It fails when the settings are not valid.
func Handler(s Settings) (http.Handler, error) {
	if s.Title == "" {
		s.Title = "Isthmus"
	}
	if s.Scopes == nil {
		s.Scopes = DefaultScopes()
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	settings, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("softphone settings: %w", err)
	}
	files := map[string]file{"settings.json": newFile("settings.json", settings)}
	entries, err := fs.ReadDir(dist, "dist")
	if err != nil {
		return nil, fmt.Errorf("softphone page: %w", err)
	}
	for _, e := range entries {
		content, err := dist.ReadFile("dist/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("softphone page: %w", err)
		}
		files[e.Name()] = newFile(e.Name(), content)
	}
	policy := contentSecurityPolicy(s.origins())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Permissions-Policy", "microphone=(self), camera=(), geolocation=(), payment=(), usb=()")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "The page can only be read.", http.StatusMethodNotAllowed)
			return
		}
		name := strings.TrimPrefix(r.URL.Path, "/")
		if name == "" {
			name = "index.html"
		}
		f, ok := files[name]
		if !ok {
			http.Error(w, "There is no such file.", http.StatusNotFound)
			return
		}
		f.serve(w, r)
	}), nil
}

// contentSecurityPolicy lets the page run its own script only, and talk to the
// gateway, the OAuth server and the demo network only.
func contentSecurityPolicy(origins []string) string {
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src 'self'",
		"media-src 'self' blob: mediastream:",
		"connect-src " + strings.Join(append([]string{"'self'"}, origins...), " "),
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
	}, "; ")
}

func newFile(name string, content []byte) file {
	sum := sha256.Sum256(content)
	f := file{
		contentType: contentTypes[path.Ext(name)],
		etag:        base64.RawURLEncoding.EncodeToString(sum[:12]),
		plain:       content,
	}
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is a valid one
	// Writing to a buffer does not fail.
	_, _ = z.Write(content)
	_ = z.Close()
	if b.Len() < len(content) {
		f.zipped = b.Bytes()
	}
	return f
}

// serve sends the file. Browsers keep it, and ask each time whether it is still
// the same, so that a new gateway brings its own page at once.
func (f file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", "no-cache")
	h.Set("Vary", "Accept-Encoding")
	body, etag := f.plain, `"`+f.etag+`"`
	if f.zipped != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		body, etag = f.zipped, `"`+f.etag+`-gz"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", etag)
	for candidate := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/"); candidate == etag || candidate == "*" {
			h.Del("Content-Encoding")
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h.Set("Content-Length", fmt.Sprint(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body) // a browser that left is no error
}
