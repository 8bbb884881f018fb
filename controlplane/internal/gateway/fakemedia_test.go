package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// fakeMedia is a Media with one node. It notes the plans that it was given and
// what was wrong with their order.
type fakeMedia struct {
	mu sync.Mutex
	// plans in force, by call; encoded, so that nothing is shared.
	plans map[string]string
	// last generation of each call; removed counts Remove.
	last    map[string]uint64
	removed map[string]int
	adopted []MediaPlan
	wrong   []string
	// digits that were sent, as "leg digit milliseconds".
	digits []string
	// applyErr, when set, may refuse a plan.
	applyErr func(p MediaPlan) error
}

func newFakeMedia() *fakeMedia {
	return &fakeMedia{plans: map[string]string{}, last: map[string]uint64{}, removed: map[string]int{}}
}

func (m *fakeMedia) Apply(_ context.Context, p MediaPlan) (MediaState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.applyErr != nil {
		if err := m.applyErr(p); err != nil {
			return MediaState{}, err
		}
	}
	if p.Generation <= m.last[p.CallID] {
		m.wrong = append(m.wrong, fmt.Sprintf("call %s: generation %d after %d", p.CallID, p.Generation, m.last[p.CallID]))
	}
	if m.removed[p.CallID] > 0 {
		m.wrong = append(m.wrong, fmt.Sprintf("call %s: applied after it was removed", p.CallID))
	}
	m.last[p.CallID] = p.Generation
	m.plans[p.CallID] = encode(p)
	return MediaState{
		Node:       "node-1",
		Candidates: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.10:3478")},
		Core:       netip.MustParseAddrPort("192.0.2.10:20000"),
		CoreRTCP:   netip.MustParseAddrPort("192.0.2.10:20001"),
	}, nil
}

func (m *fakeMedia) Remove(_ context.Context, p MediaPlan) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.removed[p.CallID]++
	delete(m.plans, p.CallID)
}

func (m *fakeMedia) Adopt(plans []MediaPlan) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.adopted = append(m.adopted, plans...)
}

func (m *fakeMedia) SendDTMF(_ context.Context, p MediaPlan, leg, digit string, d time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.plans[p.CallID] == "" {
		m.wrong = append(m.wrong, "a digit for a call without media")
	}
	m.digits = append(m.digits, fmt.Sprint(leg, " ", digit, " ", d.Milliseconds()))
	return nil
}

func (m *fakeMedia) Ready() error { return nil }

// plan is what is in force for a call; ok is false when there is nothing.
func (m *fakeMedia) plan(callID string) (p MediaPlan, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	text, ok := m.plans[callID]
	if ok {
		p = decode[MediaPlan](text)
	}
	return p, ok
}

// refuse makes every plan fail with err; nil ends that.
func (m *fakeMedia) refuse(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applyErr = func(MediaPlan) error { return err }
}
