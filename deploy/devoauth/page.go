package devoauth

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"strings"
	"unicode/utf8"
)

//go:embed pages/*.html pages/*.css
var pageFiles embed.FS

var pages = template.Must(template.ParseFS(pageFiles, "pages/*.html"))

// style is written into each page, so that a page is one request.
var style = func() template.CSS {
	b, err := pageFiles.ReadFile("pages/style.css")
	if err != nil {
		panic(err) // embedded at build time
	}
	return template.CSS(b)
}()

// person is a line of the list of subscribers.
type person struct {
	Number, Name, Shown, Initials string
	Hue                           int
	Tag                           string // why it is offered first, or empty
}

// permission is what an application asks for, in words.
type permission struct{ Title, Detail string }

// loginPage lists the subscribers; the one that the application asks for, or else
// the one chosen in this browser before, stands out.
func (s *Server) loginPage(w http.ResponseWriter, id string, req *authRequest, lg *login) {
	first, tag := req.hint, "suggested"
	if first == "" && lg != nil {
		first, tag = lg.number, "last used"
	}
	people := make([]person, len(s.cfg.Subscribers))
	for i, sub := range s.cfg.Subscribers {
		people[i] = person{
			Number:   sub.Number,
			Name:     sub.Name,
			Shown:    spaced(sub.Number),
			Initials: initials(sub.Name),
			Hue:      (i*67 + 190) % 360,
		}
		if sub.Number == first {
			people[i].Tag = tag
		}
		if sub.Name == "" {
			people[i].Name, people[i].Shown, people[i].Initials = people[i].Shown, "", "#"
		}
	}
	s.render(w, http.StatusOK, "login.html", map[string]any{
		"Style":       style,
		"Action":      s.prefix + pathDecision,
		"Request":     id,
		"Client":      req.client.title(),
		"People":      people,
		"Permissions": permissions(req.scopes),
		"Scopes":      req.scopes,
	})
}

func (s *Server) errorPage(w http.ResponseWriter, message string) {
	s.render(w, http.StatusBadRequest, "error.html", map[string]any{"Style": style, "Message": message})
}

func (s *Server) render(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, "the page cannot be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin") // with no-referrer the form would be sent with Origin: null
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the browser has gone when this fails
}

func (c *client) title() string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID
}

// permissions puts scopes into words, one line for each API.
func permissions(scopes []string) []permission {
	texts := []struct {
		prefix string
		permission
	}{
		{"webrtc-registration:", permission{"Register this device", "so that it can be reached under your number"}},
		{"webrtc-call-handling:", permission{"Place and take calls", "with your number as the caller"}},
		{"webrtc-events", permission{"Be told about calls", "incoming calls and every change of a call"}},
		{"openid", permission{"Know who you are", "your name and number"}},
		{"offline_access", permission{"Stay signed in", "until you sign out"}},
		{"dpv:", permission{"Use your data", "for the purpose it names below"}},
	}
	var said []permission
	for _, t := range texts {
		for _, scope := range scopes {
			if strings.HasPrefix(scope, t.prefix) {
				said = append(said, t.permission)
				break
			}
		}
	}
	return said
}

// spaced groups the digits of a number so that it can be read.
func spaced(number string) string {
	var b strings.Builder
	for i, r := range number {
		if i > 0 && (len(number)-i)%3 == 0 && len(number)-i >= 3 && i >= 3 {
			b.WriteRune('\u00a0')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func initials(name string) string {
	var b strings.Builder
	for _, word := range strings.Fields(name) {
		r, _ := utf8.DecodeRuneInString(word)
		b.WriteString(strings.ToUpper(string(r)))
		if utf8.RuneCountInString(b.String()) == 2 {
			break
		}
	}
	return b.String()
}
