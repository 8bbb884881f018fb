package srtp

// windowSize in packets; a power of two.
const windowSize = 1024

// Window remembers which of the newest indices were used.
type Window struct {
	newest  uint64
	started bool
	bits    [windowSize / 64]uint64
}

// Newest index accepted.
func (w *Window) Newest() uint64 { return w.newest }

// Accept reports whether index is new, and notes it. Indices that fell out of
// the window are never accepted.
func (w *Window) Accept(index uint64) bool {
	switch {
	case !w.started:
		w.started = true
		w.newest = index
	case index > w.newest:
		w.slide(index)
	case w.newest-index >= windowSize || w.has(index):
		return false
	}
	w.set(index)
	return true
}

// Fresh says whether Accept would take index.
func (w *Window) Fresh(index uint64) bool {
	return !w.started || index > w.newest || w.newest-index < windowSize && !w.has(index)
}

// Fill makes every index up to index a used one.
func (w *Window) Fill(index uint64) {
	w.started, w.newest = true, index
	for i := range w.bits {
		w.bits[i] = ^uint64(0)
	}
}

// Merge moves the window to newest and notes those of the indices above floor
// that used says. Indices up to floor stay as they are.
func (w *Window) Merge(floor, newest uint64, used func(uint64) bool) {
	if !w.started || newest <= floor {
		return
	}
	if newest > w.newest {
		w.slide(newest)
		w.clear(newest)
	}
	first := floor + 1
	if w.newest-first >= windowSize {
		first = w.newest - windowSize + 1
	}
	for i := first; i <= newest; i++ {
		if used(i) {
			w.set(i)
		}
	}
}

// slide makes index the newest, and those that it passes unused.
func (w *Window) slide(index uint64) {
	if index-w.newest >= windowSize {
		clear(w.bits[:])
	} else {
		for i := w.newest + 1; i < index; i++ {
			w.clear(i)
		}
	}
	w.newest = index
}

func (w *Window) set(index uint64) {
	slot := index % windowSize
	w.bits[slot/64] |= 1 << (slot % 64)
}

func (w *Window) has(index uint64) bool {
	slot := index % windowSize
	return w.bits[slot/64]&(1<<(slot%64)) != 0
}

func (w *Window) clear(index uint64) {
	slot := index % windowSize
	w.bits[slot/64] &^= 1 << (slot % 64)
}
