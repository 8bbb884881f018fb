package session

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/srtp"
	mediav1 "github.com/isthmus-gateway/isthmus/proto/gen/isthmus/media/v1"
)

// Whatever happens to a call, a node with an engine sends bit for bit what a node
// without one does, tells the same, and counts the same.
func TestTwins(t *testing.T) {
	for _, profile := range []srtp.Profile{srtp.AES128GCM, srtp.AES256GCM, srtp.AES128CMSHA1} {
		t.Run(profile.String(), func(t *testing.T) {
			offloaded := 0
			rapid.Check(t, func(t *rapid.T) {
				w := newTwins(t, profile)
				defer w.close()
				w.media(w.farAt, &w.far, 30)
				w.media(w.browserAt, &w.browser, 30)
				for range rapid.IntRange(1, 12).Draw(t, "steps") {
					w.step(everything)
				}
				w.media(w.farAt, &w.far, 30)
				w.pass(500 * time.Millisecond)
				var state, told [2][]string
				for i, n := range w.nodes {
					state[i], told[i] = counters(n.sessions["1"].State()), n.told()
				}
				if !slices.Equal(state[0], state[1]) {
					t.Errorf("counters with the engine %v\nwithout %v", state[0], state[1])
				}
				if !slices.Equal(told[0], told[1]) {
					t.Errorf("told with the engine %v\nwithout %v", told[0], told[1])
				}
				offloaded += w.nodes[0].offload
				for i, n := range w.nodes {
					last, err := n.Remove("1", 1)
					if err != nil {
						t.Fatal(err)
					}
					if state[i] = counters(last); i == 0 && len(n.engine.Plans()) != 0 {
						t.Error("plans are left behind")
					}
				}
				if !slices.Equal(state[0], state[1]) {
					t.Errorf("last counters with the engine %v\nwithout %v", state[0], state[1])
				}
			})
			if offloaded == 0 {
				t.Error("nothing was offloaded")
			}
		})
	}
}

// A node that dies and comes back goes on as if it had not: nothing is lost
// meanwhile, no index is used twice, and counters go on.
func TestTwinSurvivesCrash(t *testing.T) {
	for _, profile := range []srtp.Profile{srtp.AES128GCM, srtp.AES256GCM, srtp.AES128CMSHA1} {
		t.Run(profile.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				w := newTwins(t, profile)
				defer w.close()
				w.both(60)
				if got := len(w.nodes[0].sessions["1"].offloads); got != 2 {
					t.Fatalf("%d streams offloaded, want 2", got)
				}
				before := w.nodes[0].sessions["1"].State()
				w.crash(rapid.IntRange(1, 40).Draw(t, "frames"))
				for i, st := range w.nodes[0].sessions["1"].State().GetStreams() {
					// What user space forwarded before is not in the kernel.
					if c, old := st.GetCounters(), before.GetStreams()[i].GetCounters(); c.GetReceivedPackets()+35 < old.GetReceivedPackets() || c.GetLostPackets() != 0 {
						t.Errorf("counters after the crash %v, before %v", c, old)
					}
				}
				w.both(5)
				for range rapid.IntRange(1, 6).Draw(t, "steps") {
					w.step(mediaOnly)
				}
				if _, err := w.nodes[0].Remove("1", 1); err != nil || len(w.nodes[0].engine.Plans()) != 0 {
					t.Errorf("%v, %d plans left behind", err, len(w.nodes[0].engine.Plans()))
				}
			})
		})
	}
}

// once runs what does not depend on what is drawn.
func once(t *testing.T, f func(*rapid.T)) {
	done := false
	rapid.Check(t, func(t *rapid.T) {
		if !done {
			done = true
			f(t)
		}
	})
}

// Plans of sessions that nobody claims are taken away.
func TestUnclaimedPlansEnd(t *testing.T) {
	once(t, func(t *rapid.T) {
		w := newTwins(t, srtp.AES128GCM)
		defer w.close()
		n := w.nodes[0]
		n.engine.Upsert(fastpath.Plan{Key: fastpath.Key{SSRC: 1}, Session: "gone"})
		n.engine.Restart()
		n.Adopt()
		n.tick(w.clock.add(n.config.OrphanAfter - time.Second))
		if got := len(n.engine.Plans()); got != 1 {
			t.Fatalf("%d plans, want 1", got)
		}
		n.tick(w.clock.add(time.Second))
		if len(n.engine.Plans()) != 0 {
			t.Error("an unclaimed plan goes on")
		}
	})
}

// An engine that loses a plan does no harm: the stream goes on from an index that
// cannot have been used.
func TestPlanLost(t *testing.T) {
	once(t, func(t *rapid.T) {
		w := newTwins(t, srtp.AES128GCM)
		defer w.close()
		w.both(rapid.IntRange(60, 100).Draw(t, "frames"))
		n := w.nodes[0]
		for _, p := range n.engine.Plans() {
			n.engine.Lose(p.Key)
		}
		s := n.sessions["1"]
		last := s.table.Outgoing("w")[5]
		n.tick(w.clock.Now())
		if len(s.offloads) != 0 {
			t.Fatal("lost plans are still thought to run")
		}
		n.arrive(t, "f0", w.packet("f0", &w.far, 0, make([]byte, 160)), false)
		if got := s.table.Outgoing("w")[5]; got < last+1<<12 {
			t.Errorf("goes on at %d after %d", got, last)
		}
	})
}

// A stream says what forwards it, and why not something faster.
func TestEngineReasons(t *testing.T) {
	once(t, func(t *rapid.T) {
		w := newTwins(t, srtp.AES128GCM)
		defer w.close()
		n := w.nodes[0]
		s := n.sessions["1"]
		expect := func(engine, reason string) {
			t.Helper()
			n.tick(w.clock.Now())
			if e, r := s.engineOf("ts"); e != engine || r != reason {
				t.Fatalf("%s, %q; want %s, %q", e, r, engine, reason)
			}
		}
		expect("user", "no packet has come yet")
		w.both(2)
		expect("user", "the source is settling")
		w.both(10)
		refused := fastpath.Reason("no next hop")
		n.engine.Refuse = func(fastpath.Plan) fastpath.Reason { return refused }
		expect("user", "no next hop")
		refused = ""
		expect("user", "no next hop") // not asked again at once
		w.clock.add(firstRefusal)
		expect("xdp", "")
		w.apply(func(n *node) { n.spec.Streams[1].Direction = mediav1.Direction_DIRECTION_INACTIVE })
		expect("user", "the direction of the stream lets nothing in")
		if e, r := w.nodes[1].sessions["1"].engineOf("ts"); e != "user" || r != "for comparison" {
			t.Errorf("%s %q", e, r)
		}
	})
}
