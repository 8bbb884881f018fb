package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store/queries"
)

// receiver gets at once what this process records or lets through.
type receiver struct {
	lease time.Duration
	take  func(gateway.Delivery)
}

// Receive makes this process lease the head of a queue in the transaction that
// puts it there, and hand it to take when that has been committed. Nothing is
// left to be claimed then but what other processes gave up or put off. A nil take
// ends it.
func (s *Store) Receive(lease time.Duration, take func(gateway.Delivery)) {
	if take == nil {
		s.receiver.Store(nil)
		return
	}
	s.receiver.Store(&receiver{lease, take})
}

// hold is how a row is marked that is handed over: not at all without a receiver.
func (s *Store) hold(r *receiver) (lease, attempts int64, holder string) {
	if r == nil {
		return 0, 0, ""
	}
	return r.lease.Microseconds(), 1, s.holder.id
}

// handOver gives the receiver what was leased for it.
func (s *Store) handOver(r *receiver, deliveries []gateway.Delivery) {
	if r == nil || len(deliveries) == 0 {
		return
	}
	s.holder.until.Store(time.Now().Add(r.lease).UnixNano())
	for _, d := range deliveries {
		r.take(d)
	}
}

// flush does what a transaction is to do to queues, and answers the deliveries
// that are to be handed to the receiver when it is committed.
func (s *Store) flush(ctx context.Context, t *tx, r *receiver) ([]gateway.Delivery, error) {
	var deliveries []gateway.Delivery
	for _, id := range slices.Sorted(maps.Keys(t.queues)) {
		change := t.queues[id]
		queue, err := t.q.ExtendQueue(ctx, queries.ExtendQueueParams{
			Events: int64(len(change.events)), Changes: change.changes, Subscription: id,
		})
		if err != nil {
			return nil, lookup(err, "subscription", id)
		}
		// The lock is held: a subscription that was read as active has not ended
		// before these events, or this transaction is stale.
		if read := t.version(subscriptionPlace(queue.Tenant, id)); read >= 0 && read != queue.Version {
			t.stale = true
			return nil, errStale
		}
		seq := queue.LastSeq - int64(len(change.events))
		for _, e := range change.events {
			seq++
			d, leased, err := s.insertOutbox(ctx, t, r, queue.Tenant, id, seq, e)
			if err != nil {
				return nil, err
			}
			if leased {
				deliveries = append(deliveries, d)
			}
		}
	}
	if len(deliveries) > 0 {
		return deliveries, s.keepAliveIn(ctx, t)
	}
	return nil, nil
}

func (s *Store) insertOutbox(ctx context.Context, t *tx, r *receiver, tenant, subscription string, seq int64, e call.Event) (d gateway.Delivery, leased bool, err error) {
	data, err := sealJSON(s.seal, e, outboxPlace(tenant, subscription, seq))
	if err != nil {
		return d, false, err
	}
	lease, attempts, holder := s.hold(r)
	row, err := t.q.InsertOutbox(ctx, queries.InsertOutboxParams{
		Tenant: tenant, Subscription: subscription, Seq: seq, Lease: lease, Attempts: attempts, Holder: holder, Data: data,
	})
	if err != nil {
		return d, false, fmt.Errorf("enqueue event %s for subscription %s: %w", e.ID, subscription, err)
	}
	if r == nil || row.NextAttemptAt == 0 {
		return d, false, nil
	}
	sub, ok := t.memory.subscriptions[subscription]
	if !ok {
		if sub, err = t.Subscription(ctx, tenant, subscription); err != nil {
			return d, false, err
		}
	}
	return gateway.Delivery{
		ID: ticket{tenant, subscription, seq, attempts}.String(), Subscription: sub, Event: e, Since: fromMicros(row.RecordedAt),
	}, true, nil
}
