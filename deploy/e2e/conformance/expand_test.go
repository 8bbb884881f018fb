package conformance

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cucumber/godog"
	"github.com/google/uuid"
)

// placeholder is a name in braces.
var placeholder = regexp.MustCompile(`\{(?:[a-zA-Z][^{}":]*|\d+\w+ ago)\}`)

// expand replaces the placeholders of a text; those of an actor are a's.
func (w *world) expand(a *actor, text string) (string, error) {
	var failed error
	out := placeholder.ReplaceAllStringFunc(text, func(name string) string {
		value, err := w.value(a, strings.Trim(name, "{}"))
		if err != nil && failed == nil {
			failed = err
		}
		return value
	})
	return out, failed
}

// value of a placeholder.
func (w *world) value(a *actor, name string) (string, error) {
	if v, ok := w.vars[name]; ok {
		return v, nil
	}
	if owner, rest, ok := strings.Cut(name, "'s "); ok {
		other, err := w.actor(owner)
		if err != nil {
			return "", err
		}
		return w.value(other, rest)
	}
	switch name {
	case "registrations":
		return w.gen.registrations, nil
	case "calls":
		return w.gen.calls, nil
	case "subscriptions":
		return w.gen.subscriptions, nil
	case "far":
		return w.farNumber, nil
	case "uuid":
		return uuid.NewString(), nil
	case "gateway":
		return w.gateway.url, nil
	case "scope":
		return w.gen.scope, nil
	case "the next noon in India":
		return noonInIndia().Format(time.RFC3339), nil
	case "the next noon in India, in UTC":
		return noonInIndia().UTC().Format("2006-01-02T15:04:05.000Z"), nil
	}
	if word, rest, ok := strings.Cut(name, " "); ok {
		switch word {
		case "type":
			return w.gen.prefix + rest, nil
		case "text":
			n, err := strconv.Atoi(rest)
			return strings.Repeat("x", n), err
		}
	}
	if at, ok, err := moment(name); ok {
		return at.UTC().Format("2006-01-02T15:04:05.000Z07:00"), err
	}
	if a == nil {
		return "", fmt.Errorf("nothing is called {%s}", name)
	}
	return w.valueOf(a, name)
}

// valueOf an actor.
func (w *world) valueOf(a *actor, name string) (string, error) {
	known := map[string]string{
		"deviceId": a.deviceID, "number": a.number, "registrationId": a.registrationID, "sessionId": a.sessionID,
		"subscriptionId": a.subscriptionID, "token": a.token, "sink": w.sink.url(w.gen, a.name),
		"DEVICEID": strings.ToUpper(a.deviceID),
	}
	if v, ok := known[name]; ok {
		if v == "" {
			return "", fmt.Errorf("%s has no %s yet", a.name, name)
		}
		return v, nil
	}
	if name == "offer" {
		p, err := w.peerOf(a)
		if err != nil {
			return "", err
		}
		offer, err := p.offer()
		if err != nil {
			return "", err
		}
		quoted, err := json.Marshal(offer)
		return string(quoted), err
	}
	if name == "answer" && a.peer != nil {
		quoted, err := json.Marshal(a.peer.made)
		return string(quoted), err
	}
	return "", fmt.Errorf("nothing is called {%s}", name)
}

// noonInIndia is less than a day ahead: at most until the next noon there.
func noonInIndia() time.Time {
	now := time.Now().In(time.FixedZone("", 5*3600+1800))
	noon := time.Date(now.Year(), now.Month(), now.Day(), 12, 0, 0, 0, now.Location())
	if noon.Before(now.Add(time.Minute)) {
		noon = noon.AddDate(0, 0, 1)
	}
	return noon
}

var span = regexp.MustCompile(`^(?:in (\w+)|(\w+) ago)$`)

// moment reads "in 2h" and "2h ago".
func moment(text string) (time.Time, bool, error) {
	if text == "now" {
		return time.Now(), true, nil
	}
	m := span.FindStringSubmatch(text)
	if m == nil {
		return time.Time{}, false, nil
	}
	d, err := time.ParseDuration(m[1] + m[2])
	if m[2] != "" {
		d = -d
	}
	return time.Now().Add(d), true, err
}

// change applies a table of paths and JSON values to a body; "removed" takes a
// property away.
func (w *world) change(a *actor, body map[string]any, table *godog.Table) error {
	if table == nil {
		return nil
	}
	for _, row := range table.Rows {
		path, text := strings.Split(row.Cells[0].Value, "."), row.Cells[1].Value
		at := body
		for _, name := range path[:len(path)-1] {
			next, ok := at[name].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[name] = next
			}
			at = next
		}
		last := path[len(path)-1]
		if text == "removed" {
			delete(at, last)
			continue
		}
		text, err := w.expand(a, text)
		if err != nil {
			return err
		}
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			return fmt.Errorf("%s: %q is no JSON: %w", row.Cells[0].Value, text, err)
		}
		at[last] = v
	}
	return nil
}

// at finds a value in JSON by a path with dots; # is the length of an array.
func at(v any, path string) (any, bool) {
	for _, name := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			next, ok := x[name]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			if name == "#" {
				v = float64(len(x))
				continue
			}
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(x) {
				return nil, false
			}
			v = x[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// tolerance of moments, for machines that are busy.
const tolerance = 10 * time.Second

// expect compares a table of paths and expectations with a value: "absent",
// "present", "a UUID", a moment ("in 1h", within some seconds), /a pattern/ or a
// text.
func (w *world) expect(a *actor, v any, table *godog.Table) error {
	for _, row := range table.Rows {
		path, want := row.Cells[0].Value, row.Cells[1].Value
		have, ok := at(v, path)
		if err := w.expectOne(a, have, ok, want); err != nil {
			return fmt.Errorf("%s %w", path, err)
		}
	}
	return nil
}

func (w *world) expectOne(a *actor, have any, ok bool, want string) error {
	switch {
	case want == "absent" && ok:
		return fmt.Errorf("is %v instead of absent", have)
	case want == "absent":
		return nil
	case !ok:
		return fmt.Errorf("is absent instead of %s", want)
	case want == "present":
		return nil
	}
	text, isText := have.(string)
	if !isText {
		b, err := json.Marshal(have)
		if err != nil {
			return err
		}
		text = string(b)
	}
	if want == "a UUID" {
		if _, err := uuid.Parse(text); err != nil {
			return fmt.Errorf("is %q instead of a UUID", text)
		}
		return nil
	}
	if when, is, err := moment(want); is && err == nil {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil || at.Sub(when).Abs() > tolerance {
			return fmt.Errorf("is %s instead of %s, which is about %s", text, want, when.UTC().Format(time.RFC3339))
		}
		return nil
	}
	want, err := w.expand(a, want)
	if err != nil {
		return err
	}
	if pattern, ok := strings.CutPrefix(want, "/"); ok && strings.HasSuffix(pattern, "/") {
		if m, err := regexp.MatchString(strings.TrimSuffix(pattern, "/"), text); err != nil || !m {
			return fmt.Errorf("is %q instead of %s", text, want)
		}
		return nil
	}
	if text != want {
		return fmt.Errorf("is %q instead of %q", text, want)
	}
	return nil
}
