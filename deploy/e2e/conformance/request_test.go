package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/cucumber/godog"
)

// request is what a step says about the next request.
type request struct {
	header  http.Header
	without []string
	secure  bool
}

// answer to a request.
type answer struct {
	method, path string
	status       int
	header       http.Header
	text         []byte
	body         any
	err          error
}

// path in a step; placeholders in it may have spaces.
const path = `((?:\{[^}]*\}|[^\s{])+)`

func (w *world) bindRequests(sc *godog.ScenarioContext) {
	sc.Step(`^the next request has the header (\S+) "([^"]*)"$`, func(name, value string) error {
		value, err := w.expand(w.actors["the device"], value)
		if err != nil {
			return err
		}
		if w.next.header == nil {
			w.next.header = http.Header{}
		}
		w.next.header.Add(name, value)
		return nil
	})
	sc.Step(`^the next request has the header (\S+) with (\d+) letters$`, func(name string, n int) error {
		w.next.header = http.Header{http.CanonicalHeaderKey(name): {strings.Repeat("x", n)}}
		return nil
	})
	sc.Step(`^the next request has no header (\S+)$`, func(name string) error {
		w.next.without = append(w.next.without, name)
		return nil
	})
	sc.Step(`^the next request has no token$`, func() error {
		w.next.without = append(w.next.without, "Authorization")
		return nil
	})
	sc.Step(`^`+who+` sends ([A-Z]+) `+path+`$`, func(name, method, path string) error {
		return w.send(name, method, path, nil)
	})
	sc.Step(`^`+who+` sends ([A-Z]+) `+path+` with$`, func(name, method, path string, body *godog.DocString) error {
		return w.send(name, method, path, &body.Content)
	})
	sc.Step(`^`+who+` sends ([A-Z]+) `+path+` until the answer is (\d{3})$`, func(name, method, path string, status int) error {
		return eventually(func() error { return w.must(w.send(name, method, path, nil), w.answered(status, "")) })
	})
	sc.Step(`^`+who+` sends ([A-Z]+) `+path+` with (\d+) bytes$`, func(name, method, path string, n int) error {
		frame := len(`{"":""}`)
		body := `{"` + strings.Repeat("x", n-frame) + `":""}`
		return w.send(name, method, path, &body)
	})
	sc.Step(`^`+who+` sends ([A-Z]+) `+path+` with objects (\d+) deep$`, func(name, method, path string, n int) error {
		body := strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n)
		return w.send(name, method, path, &body)
	})
}

// send is a step's request; its answer is looked at by later steps.
func (w *world) send(name, method, path string, body *string) error {
	a, err := w.actor(name)
	if err != nil {
		return err
	}
	if path, err = w.expand(a, path); err != nil {
		return err
	}
	if body != nil {
		text, err := w.expand(a, *body)
		if err != nil {
			return err
		}
		body = &text
	}
	return w.call(a, method, path, body)
}

// sendJSON is send with a value.
func (w *world) sendJSON(a *actor, method, path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	text := string(b)
	return w.call(a, method, path, &text)
}

// call sends a request and checks the answer against the documents.
func (w *world) call(a *actor, method, path string, body *string) error {
	next := w.next
	w.next = request{}
	base, client := w.gateway.url, w.gateway.client
	if next.secure {
		base = w.gateway.secure
		client = w.site.boundClient()
		defer client.CloseIdleConnections()
	}
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader([]byte(*body))
	}
	r, err := http.NewRequest(method, base+path, reader)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+a.token)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for k, v := range next.header {
		r.Header[k] = v
	}
	for _, k := range next.without {
		r.Header.Del(k)
	}
	answered, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answered.Body.Close()
	text, err := io.ReadAll(answered.Body)
	if err != nil {
		return err
	}
	plain, _, _ := strings.Cut(path, "?")
	if u, err := url.PathUnescape(plain); err == nil {
		plain = u
	}
	w.last = &answer{method: method, path: plain, status: answered.StatusCode, header: answered.Header, text: text}
	if len(text) > 0 {
		w.last.err = json.Unmarshal(text, &w.last.body)
	}
	if method == http.MethodOptions || strings.HasPrefix(path, "/openapi") {
		return nil
	}
	if strings.HasPrefix(path, "/relay/") {
		// The relay is no CAMARA API, but its errors have the same form.
		if w.last.status >= 400 {
			return checkErrorInfo(w.last)
		}
		return nil
	}
	if err := w.gateway.documents.check(w.last, w.prefixOf(body)); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if sent := r.Header.Values("X-Correlator"); len(sent) == 1 && correlator.MatchString(sent[0]) {
		if got := w.last.header.Get("X-Correlator"); got != sent[0] {
			return fmt.Errorf("x-correlator %q came back as %q", sent[0], got)
		}
	}
	return nil
}

// prefixOf the event types of a request, which tells the document of a path that
// two generations share.
func (w *world) prefixOf(body *string) string {
	if body != nil {
		for _, g := range []generation{r31, main2606} {
			if strings.Contains(*body, g.prefix) {
				return g.prefix
			}
		}
	}
	return w.gen.prefix
}

func (w *world) bindAnswers(sc *godog.ScenarioContext) {
	sc.Step(`^the answer is (\d{3})(?: \((\d{3}) in r2\.2\))?(?: ([A-Z_]+))?$`, func(status int, older, code string) error {
		if older != "" && w.gen.name == r22.name {
			n, err := strconv.Atoi(older)
			if err != nil {
				return err
			}
			status = n
		}
		return w.answered(status, code)
	})
	sc.Step(`^the answer has$`, func(table *godog.Table) error {
		if err := w.expect(w.actors["the device"], w.last.body, table); err != nil {
			return fmt.Errorf("%w: %s", err, w.last.text)
		}
		return nil
	})
	sc.Step(`^the answer's header (\S+) is "([^"]*)"$`, func(name, want string) error {
		if have := w.last.header.Get(name); have != want {
			return fmt.Errorf("it is %q", have)
		}
		return nil
	})
	sc.Step(`^the answer's header (\S+) holds "([^"]*)"$`, func(name, want string) error {
		if have := strings.Join(w.last.header.Values(name), ", "); !strings.Contains(have, want) {
			return fmt.Errorf("it is %q", have)
		}
		return nil
	})
	sc.Step(`^the answer's header (\S+) is not "([^"]*)"$`, func(name, unwanted string) error {
		if have := w.last.header.Get(name); have == "" || have == unwanted {
			return fmt.Errorf("it is %q", have)
		}
		return nil
	})
	sc.Step(`^the answer has no header (\S+)$`, func(name string) error {
		if have := w.last.header.Values(name); len(have) > 0 {
			return fmt.Errorf("it is %q", have)
		}
		return nil
	})
	sc.Step(`^the answer's "([^"]+)" is kept as "([^"]+)"$`, func(path, name string) error {
		v, ok := at(w.last.body, path)
		if !ok {
			return fmt.Errorf("the answer has no %s: %s", path, w.last.text)
		}
		w.vars[name] = fmt.Sprint(v)
		return nil
	})
	sc.Step(`^the answer's "([^"]+)" in capitals is kept as "([^"]+)"$`, func(path, name string) error {
		w.vars[name] = strings.ToUpper(w.field(path))
		return nil
	})
	sc.Step(`^the answer does not hold "([^"]+)"$`, func(text string) error {
		if strings.Contains(string(w.last.text), text) {
			return fmt.Errorf("it is %s", w.last.text)
		}
		return nil
	})
}

// answered checks the last answer's status and code; an empty code is no error.
func (w *world) answered(status int, code string) error {
	if w.last == nil {
		return errors.New("nothing was sent")
	}
	have := ""
	if e, ok := w.last.body.(map[string]any); ok && w.last.status >= 400 {
		have, _ = e["code"].(string)
	}
	if w.last.status != status || code != "" && have != code {
		return fmt.Errorf("the answer is %d %s", w.last.status, w.last.text)
	}
	return nil
}

// field of the last answer.
func (w *world) field(name string) string {
	v, _ := at(w.last.body, name)
	s, _ := v.(string)
	return s
}
