package conformance

import (
	"context"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cucumber/godog"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/pgtest"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/program"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Remove()
	os.Exit(code)
}

// atOnce is how many scenarios of a generation run at the same time. They mostly
// wait.
const atOnce = 6

func TestConformance(t *testing.T) {
	stores := []struct {
		name string
		dsn  func(*testing.T) string
	}{
		{"sqlite", func(*testing.T) string { return "" }},
		{"postgresql", func(t *testing.T) string { return pgtest.Start(t) }},
	}
	for _, store := range stores {
		t.Run(store.name, func(t *testing.T) {
			s := startSite(t, func() string { return store.dsn(t) })
			// The inner group ends before the site does.
			t.Run("all", func(t *testing.T) {
				for _, g := range generations {
					t.Run(g.name, func(t *testing.T) {
						t.Parallel()
						runFeatures(t, s, g)
					})
				}
			})
		})
	}
}

func runFeatures(t *testing.T, s *site, g generation) {
	var ran atomic.Int64
	suite := godog.TestSuite{
		Name: g.name,
		ScenarioInitializer: func(sc *godog.ScenarioContext) {
			ran.Add(1)
			newWorld(s, g).bind(sc)
		},
		Options: &godog.Options{
			Format: "progress", Output: io.Discard, Strict: true, NoColors: true, Concurrency: atOnce,
			Paths: []string{"features"}, Tags: g.tags(), TestingT: t, DefaultContext: context.Background(),
		},
	}
	if code := suite.Run(); code != 0 && !t.Failed() {
		t.Errorf("the suite ends with %d", code)
	}
	if ran.Load() == 0 {
		t.Error("no scenario has run")
	}
	t.Logf("%d scenarios", ran.Load())
}

// generation of the APIs, as an application uses it.
type generation struct {
	name string
	tag  string
	// Paths of the resources.
	registrations, calls, subscriptions string
	// prefix of event types, scope of what may be done with subscriptions.
	prefix, scope string
	// single: a subscription has one type and belongs to a registration.
	single bool
}

var (
	r31 = generation{
		name: "r3.1", tag: "r31",
		registrations: "/webrtc-registration/v0.4/sessions",
		calls:         "/webrtc-call-handling/v0.4/sessions",
		subscriptions: "/webrtc-events-subscriptions/v0.3/subscriptions",
		prefix:        "org.camaraproject.webrtc-events-subscriptions.v0.",
		scope:         "webrtc-events-subscriptions",
	}
	r22 = generation{
		name: "r2.2", tag: "r22",
		registrations: "/webrtc-registration/v0.3/sessions",
		calls:         "/webrtc-call-handling/v0.3/sessions",
		subscriptions: "/webrtc-events/v0.2/subscriptions",
		prefix:        "org.camaraproject.webrtc-events.v0.",
		scope:         "webrtc-events",
		single:        true,
	}
	main2606 = generation{
		name: "main-2026-06", tag: "main",
		registrations: "/webrtc-registration/vwip/sessions",
		calls:         "/webrtc-call-handling/vwip/sessions",
		subscriptions: "/webrtc-events/v0.3/subscriptions",
		prefix:        "org.camaraproject.webrtc-events.v0.",
		scope:         "webrtc-events",
	}
	generations = []generation{r31, r22, main2606}
)

// tags select the scenarios that name this generation, or none.
func (g generation) tags() string {
	var all []string
	for _, other := range generations {
		if other.tag != g.tag {
			all = append(all, "@"+g.tag+",~@"+other.tag)
		}
	}
	return strings.Join(all, " && ")
}

func generationNamed(name string) (generation, bool) {
	for _, g := range generations {
		if g.name == name {
			return g, true
		}
	}
	return generation{}, false
}
