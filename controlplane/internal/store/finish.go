package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store/queries"
)

// finished is a delivery that is to be removed, and where to say that it was.
type finished struct {
	ticket
	gone chan error
}

// mostFinished bounds what one transaction removes.
const mostFinished = 128

// Done removes a delivered or given-up event and lets the next one through. What
// is done at the same time is removed in one transaction.
//
// Its commit does not wait for the disk: a power failure that undoes it makes the
// event be sent once more, with the same id, as it would be if the process had
// died a moment earlier.
func (s *Store) Done(ctx context.Context, id string) error {
	t, err := parseTicket(id)
	if err != nil {
		return err
	}
	f := finished{t, make(chan error, 1)}
	select {
	case s.finished <- f:
	case <-ctx.Done():
		return fmt.Errorf("remove delivery %s: %w", id, ctx.Err())
	}
	select {
	case err = <-f.gone:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("remove delivery %s: %w", id, err)
	}
	return nil
}

// finish removes what is done until ctx is done.
func (s *Store) finish(ctx context.Context) {
	for {
		var batch []finished
		select {
		case f := <-s.finished:
			batch = append(batch, f)
		case <-ctx.Done():
			return
		}
	gather:
		for len(batch) < mostFinished {
			select {
			case f := <-s.finished:
				batch = append(batch, f)
			default:
				break gather
			}
		}
		// In the order in which transactions lock queues.
		slices.SortFunc(batch, func(a, b finished) int {
			return strings.Compare(a.tenant+"\x00"+a.subscription, b.tenant+"\x00"+b.subscription)
		})
		err := s.finishBatch(ctx, batch)
		for _, f := range batch {
			f.gone <- err
		}
	}
}

func (s *Store) finishBatch(ctx context.Context, batch []finished) error {
	r := s.receiver.Load()
	lease, attempts, holder := s.hold(r)
	var next []queries.PromoteOutboxRow
	err := s.lazily(ctx, func(x *tx) error {
		next = nil
		for _, f := range batch {
			last, err := x.q.LockQueue(ctx, f.tenant, f.subscription)
			if errors.Is(err, sql.ErrNoRows) {
				continue // forgotten with its subscription
			}
			if err != nil {
				return err
			}
			n, err := x.q.DeleteOutbox(ctx, queries.DeleteOutboxParams{Tenant: f.tenant, Subscription: f.subscription, Seq: f.seq})
			if err != nil {
				return err
			}
			if n == 0 || last == f.seq {
				continue // nothing behind it
			}
			rows, err := x.q.PromoteOutbox(ctx, queries.PromoteOutboxParams{
				Lease: lease, Attempts: attempts, Holder: holder, Tenant: f.tenant, Subscription: f.subscription,
			})
			if err != nil {
				return err
			}
			next = append(next, rows...)
		}
		if r == nil || len(next) == 0 {
			return nil
		}
		return s.keepAliveIn(ctx, x)
	})
	switch {
	case err != nil || len(next) == 0:
		return err
	case r == nil:
		s.wake.signalOutbox()
		return nil
	}
	deliveries := make([]gateway.Delivery, 0, len(next))
	for _, row := range next {
		if d, ok := s.readable(ctx, queries.ClaimOutboxRow(row)); ok {
			deliveries = append(deliveries, d)
		}
	}
	s.handOver(r, deliveries)
	return nil
}

// lazily runs a transaction whose loss by a power failure does no harm.
func (s *Store) lazily(ctx context.Context, fn func(*tx) error) error {
	return s.repeat(ctx, func() error {
		if s.db.engine == enginePostgres {
			return s.try(ctx, s.db.write, func(x *tx) error {
				if err := x.q.CommitLazily(ctx); err != nil {
					return err
				}
				return fn(x)
			})
		}
		conn, err := s.db.write.Conn(ctx)
		if err != nil {
			return fmt.Errorf("take the connection that writes: %w", err)
		}
		defer conn.Close()
		// A commit in full that follows takes this one to the disk with it.
		if _, err := conn.ExecContext(ctx, "PRAGMA synchronous = NORMAL"); err != nil {
			return err
		}
		err = s.try(ctx, conn, fn)
		_, back := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA synchronous = "+s.db.synchronous)
		return errors.Join(err, back)
	})
}
