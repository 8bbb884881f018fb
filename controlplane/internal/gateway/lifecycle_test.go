package gateway

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sdp"
)

// restart goes on with the store of a gateway that died.
func (w *world) restart(t testing.TB, change func(*Config)) *world {
	t.Helper()
	synctest.Wait()
	w.stop()
	next := newWorld(t, w.store, change)
	next.shown = w.shown
	return next
}

func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newFakeStore(), nil)
		d := w.device(aliceNumber, "phone")
		talking, held, calling, spoiled := w.connected(d), w.connected(d), d.calls(), w.connected(d)
		d.mustPut(held.ID, StatusRequest{Status: call.Hold})
		broken := dialogOf(spoiled.CallID)
		broken.State = []byte("spoiled")
		w.g.DialogChanged(t.Context(), spoiled.CallID, broken)
		ringsIn := w.rings(coreOffer(sdp.SendRecv))
		d.hears("Hold", "invitation+offer")
		invited := d.last().MediaSessionID

		next := w.restart(t, nil)
		if err := next.g.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.w = next
		got := next.told(d.sub.ID)
		if len(got) != 3 {
			t.Errorf("told %q", got)
		}
		for id, want := range map[string]call.Status{
			talking.ID: call.Connected, held.ID: call.Hold, calling.ID: call.Failed, invited: call.Failed, spoiled.ID: call.Terminated,
		} {
			if m := d.get(id); m.Status != want {
				t.Errorf("a session is %s: %s, want %s", m.Status, m.Reason, want)
			}
		}
		for _, id := range []string{calling.CallID, ringsIn, spoiled.CallID} {
			next.gone(id)
		}
		if len(next.media.adopted) != 2 {
			t.Errorf("the media plane adopts %+v", next.media.adopted)
		}
		next.did("Keep "+string(aliceNumber), "Restore sip-"+talking.CallID, "Restore sip-"+held.CallID, "Abandon cancel", "Restore sip-"+spoiled.CallID, "Abandon ")

		// The calls go on as if nothing had happened.
		next.media.last[talking.CallID] = w.media.last[talking.CallID]
		d.conn = newPeerConnection("second")
		d.mustPut(talking.ID, StatusRequest{Status: call.Connected, Offer: d.conn.offer()})
		if p, ok := next.media.plan(talking.CallID); !ok || p.Epoch != 2 {
			t.Errorf("media is %+v", p)
		}
		d.mustPut(held.ID, StatusRequest{Status: call.Resume})
		if err := next.g.EndSession(t.Context(), d.p, talking.ID); err != nil {
			t.Error(err)
		}
		next.settle(talking.CallID)
		next.over(held.CallID, Ending{Kind: EndedBye})
		d.hears("Connected+answer", "Resume", "Terminated", "Terminated")
		next.close()
	})
}

// TestResumeInTheMidst: what was acknowledged to a device is carried on with by
// the next process, also when the last one died before the network had answered.
func TestResumeInTheMidst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newFakeStore(), nil)
		d := w.device(aliceNumber, "phone")
		leaving := w.connected(d)
		callID := w.rings(coreOffer(sdp.SendRecv))
		answered := d.picksUp(d.invited()) // and no ACK has come
		d.hears("Connected")
		if err := w.g.EndSession(t.Context(), d.p, leaving.ID); err != nil {
			t.Fatal(err)
		}

		next := w.restart(t, nil)
		if err := next.g.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.w = next
		next.settle(leaving.CallID)
		d.hears("Terminated")
		next.gone(leaving.CallID)
		if m := d.get(answered.ID); m.Status != call.Connected {
			t.Errorf("the answered session is %s: %s", m.Status, m.Reason)
		}
		if a := next.media.adopted; len(a) != 1 || a[0].CallID != callID {
			t.Errorf("the media plane adopts %+v", a)
		}
		next.over(callID, Ending{Kind: EndedBye})
		d.hears("Terminated")
		next.close()
	})
}

// TestAdoptOnDemand: a request about a call that another process left finds it,
// by its session or by its dialog.
func TestAdoptOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newFakeStore(), nil)
		d := w.device(aliceNumber, "phone")
		a, b, c := w.connected(d), w.connected(d), d.calls()
		next := w.restart(t, nil)
		d.w = next
		results := make(chan error, 4)
		for range cap(results) {
			go func() {
				_, err := d.put(a.ID, StatusRequest{})
				results <- err
			}()
		}
		for range cap(results) {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if id, _, err := next.g.FindDialog(t.Context(), "sip-"+a.CallID, "local"); err != nil || id != a.CallID {
			t.Errorf("a call that was taken over already is found as %s, %v", id, err)
		}
		next.did("Restore sip-" + a.CallID)
		if id, dialog, err := next.g.FindDialog(t.Context(), "sip-"+b.CallID, "local"); err != nil || id != b.CallID || dialog.RemoteTag != "remote" {
			t.Errorf("found %s, %+v, %v", id, dialog, err)
		}
		next.did("Restore sip-" + b.CallID)
		if _, _, err := next.g.FindDialog(t.Context(), "sip-"+b.CallID, "other"); !errors.Is(err, ErrNoDialog) {
			t.Errorf("another dialog: %v", err)
		}
		next.over(b.CallID, Ending{Kind: EndedBye})
		if _, _, err := next.g.FindDialog(t.Context(), "sip-"+b.CallID, "local"); !errors.Is(err, ErrNoDialog) {
			t.Errorf("a dialog that is over: %v", err)
		}
		_, err := d.put(c.ID, StatusRequest{})
		next.refused(err, call.IncompatibleState)
		d.hears("Terminated", "Failed")
		next.over(a.CallID, Ending{Kind: EndedBye})
		next.close()
	})
}

// TestStoreFailsAtTheEnd: the call ends all the same, and its end is told when
// the store is back.
func TestStoreFailsAtTheEnd(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(w *world, d *device, m call.MediaSession)
	}{
		{"the far end hangs up", func(w *world, d *device, m call.MediaSession) { w.over(m.CallID, Ending{Kind: EndedBye}) }},
		{"media is lost", func(w *world, d *device, m call.MediaSession) {
			w.g.SessionLost(w.t.Context(), m.CallID, "node gone")
			w.settle(m.CallID)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, nil, func(w *world) {
				d := w.device(aliceNumber, "phone")
				m := w.connected(d)
				w.store.setDown(true)
				if _, err := w.g.Offered(w.t.Context(), m.CallID, coreOffer(sdp.SendOnly)); err != nil {
					t.Error(err)
				}
				c.end(w, d, m)
				if _, ok := w.media.plan(m.CallID); ok {
					t.Error("the media outlives the call")
				}
				pass(30 * time.Second)
				d.hears()
				_, err := d.put(m.ID, StatusRequest{Status: call.Hold})
				w.refused(err, call.IncompatibleState)
				w.store.setDown(false)
				pass(2 * time.Second)
				d.hears("Hold", "Terminated")
				w.gone(m.CallID)
			})
		})
	}
	t.Run("the device hangs up", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m := w.connected(d)
			w.store.setDown(true)
			if err := w.g.EndSession(w.t.Context(), d.p, m.ID); err != nil {
				t.Error(err)
			}
			w.did("End 487 Q.850 16")
			w.settle(m.CallID)
			pass(30 * time.Second)
			w.store.setDown(false)
			pass(2 * time.Second)
			d.hears("Terminated")
			w.gone(m.CallID)
			_, err := w.g.Session(w.t.Context(), d.p, m.ID)
			w.refused(err, call.NotFound)
		})
	})
	t.Run("and the device lets go while the end waits", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m := w.connected(d)
			w.store.setDown(true)
			w.over(m.CallID, Ending{Kind: EndedBye})
			if err := w.g.EndSession(w.t.Context(), d.p, m.ID); !errors.Is(err, errStoreDown) {
				t.Error(err)
			}
			w.store.setDown(false)
			if err := w.g.EndSession(w.t.Context(), d.p, m.ID); err != nil {
				t.Error(err)
			}
			pass(2 * time.Second)
			d.hears("Terminated")
			w.gone(m.CallID)
		})
	})
}

// TestStoreFailsInBetween: what happened while the store was away is told in
// order once it is back.
func TestStoreFailsInBetween(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		m := d.calls()
		w.store.setDown(true)
		w.provisional(m.CallID, 180, "Ringing", "")
		w.provisional(m.CallID, 183, "Session Progress", coreAnswer(w.offered(m.CallID), sdp.SendRecv))
		d.hears()
		w.store.setDown(false)
		w.answer(m.CallID, coreAnswer(w.offered(m.CallID), sdp.SendRecv))
		d.hears("Ringing", "InProgress+answer", "Connected+answer")
		w.over(m.CallID, Ending{Kind: EndedBye})
	})
}

func TestStoreFailsForTimers(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.device(aliceNumber, "phone")
		w.store.setDown(true)
		pass(2 * time.Hour)
		w.store.setDown(false)
		pass(2 * time.Second)
		d.hears("registration-ends REGISTRATION_EXPIRED")
	})
}

func TestShutdown(t *testing.T) {
	for _, keep := range []bool{false, true} {
		name := "ends calls"
		if keep {
			name = "keeps confirmed calls"
		}
		t.Run(name, func(t *testing.T) {
			play(t, func(c *Config) { c.KeepCalls = keep }, func(w *world) {
				w.net.ended = func(callID string, e Ending) {
					time.Sleep(time.Second)
					if _, first := w.net.finish(callID); first {
						w.g.Ended(context.Background(), callID, e)
					}
				}
				d := w.device(aliceNumber, "phone")
				talking, calling := w.connected(d), d.calls()
				callID := w.rings(coreOffer(sdp.SendRecv))
				d.hears("invitation+offer")
				w.net.took()
				w.g.Shutdown(w.t.Context())
				w.gone(calling.CallID)
				w.gone(callID)
				if got := d.get(calling.ID); got.Status != call.Terminated {
					t.Errorf("the call in set-up is %s", got.Status)
				}
				_, err := d.originate(func(*OriginateRequest) {})
				w.refused(err, call.Unavailable)
				if keep {
					d.hears("Terminated", "Terminated")
					if got := d.get(talking.ID); got.Status != call.Connected {
						t.Errorf("the confirmed call is %s", got.Status)
					}
					if _, ok := w.media.plan(talking.CallID); !ok {
						t.Error("the confirmed call lost its media")
					}
				} else {
					d.hears("Terminated", "Terminated", "Terminated")
					w.gone(talking.CallID)
				}
			})
		})
	}
	t.Run("does not wait for ever", func(t *testing.T) {
		play(t, nil, func(w *world) {
			d := w.device(aliceNumber, "phone")
			m := w.connected(d)
			ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Second)
			defer cancel()
			w.g.Shutdown(ctx)
			if ctx.Err() == nil {
				t.Error("it did not wait for the far end")
			}
			d.hears("Terminated")
			w.gone(m.CallID)
			w.settle(m.CallID)
			d.hears()
		})
	})
}

func TestConfig(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	for name, change := range map[string]func(*Config){
		"registrations":                func(c *Config) { c.Registrations.Min = 0 },
		"subscriptions":                func(c *Config) { c.Subscriptions.Max = time.Second },
		"limits.subscriptions":         func(c *Config) { c.Limits.Subscriptions = 101 },
		"limits.devices_per_user":      func(c *Config) { c.Limits.DevicesPerUser = 0 },
		"ring_timeout":                 func(c *Config) { c.RingTimeout = 0 },
		"media_grace":                  func(c *Config) { c.MediaGrace = -1 },
		"codecs":                       func(c *Config) { c.Codecs = []string{"G729"} },
		"numbers[0]":                   func(c *Config) { c.Numbers = []string{"1555"} },
		"applications[0].client_id":    func(c *Config) { c.Applications = []Application{{}} },
		"applications[0].numbers[0]":   func(c *Config) { c.Applications = []Application{{ClientID: "a", Numbers: []string{"+x"}}} },
		"limits.registrations_per_use": func(c *Config) { c.Limits.RegistrationsPerUser = 11 },
	} {
		c := Default()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
