package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/store/queries"
)

// A process that holds leases says every beat that it lives. One that has been
// silent for lifetime is dead, and its leases are free: without that, events
// would wait for the end of a lease, which must outlast the slowest sink.
const (
	beat     = time.Second
	lifetime = 4 * beat
)

// holder is this process as it holds leases. One that holds none is silent.
type holder struct {
	id string
	// until is when its last lease runs out, said when it last said that it
	// lives; both in nanoseconds of this process's clock.
	until, said atomic.Int64
}

// keepAlive says that this process lives, unless it has done so a moment ago.
func (s *Store) keepAlive(ctx context.Context) error {
	now := time.Now().UnixNano()
	if now-s.holder.said.Load() < int64(beat) {
		return nil
	}
	err := s.again(ctx, func() error { return s.q.KeepAlive(ctx, s.holder.id, lifetime.Microseconds()) })
	if err == nil {
		s.holder.said.Store(now)
	}
	return err
}

// keepAliveIn says so in a transaction that leases something, so that whoever
// sees the lease sees whose it is.
func (s *Store) keepAliveIn(ctx context.Context, t *tx) error {
	now, said := time.Now().UnixNano(), s.holder.said.Load()
	if now-said < int64(beat) {
		return nil
	}
	if err := t.q.KeepAlive(ctx, s.holder.id, lifetime.Microseconds()); err != nil {
		return fmt.Errorf("say that this process lives: %w", err)
	}
	t.committed = append(t.committed, func() { s.holder.said.Store(now) })
	return nil
}

// watchLeases keeps this process's leases and frees those of dead processes until
// ctx is done.
func (s *Store) watchLeases(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(beat / 2)
	defer ticker.Stop()
	for {
		var err error
		if time.Now().UnixNano() < s.holder.until.Load() {
			err = s.keepAlive(ctx)
		}
		if err = errors.Join(err, s.freeLeases(ctx)); err != nil && ctx.Err() == nil {
			log.Error("look after the leases of deliveries", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// freeLeases makes due what dead processes hold.
func (s *Store) freeLeases(ctx context.Context) error {
	dead, err := s.reader.q.DeadProcesses(ctx)
	if err != nil {
		return err
	}
	for _, id := range dead {
		var freed int64
		err := s.transact(ctx, func(x *tx) (err error) {
			gone, err := x.q.ForgetProcess(ctx, id)
			if err != nil || gone == 0 {
				return err
			}
			freed, err = x.q.ReleaseLeases(ctx, id)
			return err
		})
		if err != nil {
			return err
		}
		if freed > 0 {
			s.log.Info("took over the deliveries of a dead process", "deliveries", freed)
			s.wake.signalOutbox()
		}
	}
	return nil
}

// claim is the statement of Claim, by a process that is known to live.
func (s *Store) claim(ctx context.Context, lease time.Duration, limit int) ([]queries.ClaimOutboxRow, error) {
	if err := s.keepAlive(ctx); err != nil {
		return nil, err
	}
	var rows []queries.ClaimOutboxRow
	err := s.again(ctx, func() (err error) {
		rows, err = s.q.ClaimOutbox(ctx, queries.ClaimOutboxParams{Lease: lease.Microseconds(), Holder: s.holder.id, Most: int32(limit)})
		return err
	})
	if len(rows) > 0 {
		s.holder.until.Store(time.Now().Add(lease).UnixNano())
	}
	return rows, err
}
