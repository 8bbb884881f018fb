package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store/queries"
)

func outboxPlace(tenant, subscription string, seq int64) string {
	return place("outbox", tenant, subscription, strconv.FormatInt(seq, 10))
}

// ticket is what a Delivery's ID says: the row and the claim, so that a claim
// whose lease ran out cannot move what another one holds.
type ticket struct {
	tenant, subscription string
	seq, claim           int64
}

func (t ticket) String() string {
	return fmt.Sprintf("%d.%d.%s/%s", t.seq, t.claim, t.subscription, t.tenant)
}

func parseTicket(id string) (ticket, error) {
	var t ticket
	var err1, err2 error
	seq, rest, ok1 := strings.Cut(id, ".")
	claim, rest, ok2 := strings.Cut(rest, ".")
	subscription, tenant, ok3 := strings.Cut(rest, "/")
	t.subscription, t.tenant = subscription, tenant
	t.seq, err1 = strconv.ParseInt(seq, 10, 64)
	t.claim, err2 = strconv.ParseInt(claim, 10, 64)
	if !ok1 || !ok2 || !ok3 || err1 != nil || err2 != nil {
		return ticket{}, fmt.Errorf("%q is not the id of a delivery", id)
	}
	return t, nil
}

// Claim leases up to limit deliveries that are due, in one statement. Two
// processes that find the same row are told apart by the row's lock: the second
// sees the first one's lease when it rechecks.
func (s *Store) Claim(ctx context.Context, lease time.Duration, limit int) ([]gateway.Delivery, error) {
	rows, err := s.claim(ctx, lease, limit)
	if err != nil {
		return nil, fmt.Errorf("claim deliveries: %w", err)
	}
	deliveries := make([]gateway.Delivery, 0, len(rows))
	for _, row := range rows {
		if d, ok := s.readable(ctx, row); ok {
			deliveries = append(deliveries, d)
		}
	}
	return deliveries, nil
}

// readable answers a leased row as a delivery. One that cannot be read stays
// leased: it must not hold up the rest.
func (s *Store) readable(ctx context.Context, row queries.ClaimOutboxRow) (gateway.Delivery, bool) {
	d, err := s.delivery(ctx, row)
	if err == nil {
		return d, true
	}
	if errors.Is(err, gateway.ErrNotFound) {
		// Its subscription was forgotten meanwhile.
		err = s.Discard(ctx, row.Subscription)
	}
	if err != nil {
		s.log.Error("a queued event cannot be read", "subscription", row.Subscription, "error", err)
	}
	return d, false
}

func (s *Store) delivery(ctx context.Context, row queries.ClaimOutboxRow) (gateway.Delivery, error) {
	e, err := openJSON[call.Event](s.seal, row.Data, outboxPlace(row.Tenant, row.Subscription, row.Seq))
	if err != nil {
		return gateway.Delivery{}, err
	}
	sub, err := s.Subscription(ctx, row.Tenant, row.Subscription)
	if err != nil {
		return gateway.Delivery{}, err
	}
	return gateway.Delivery{
		ID:           ticket{row.Tenant, row.Subscription, row.Seq, row.Attempts}.String(),
		Subscription: sub,
		Event:        e,
		Attempts:     int(row.Attempts) - 1,
		Since:        fromMicros(row.RecordedAt),
	}, nil
}

// Retry makes a delivery due again after a delay, unless it was claimed anew.
func (s *Store) Retry(ctx context.Context, id string, after time.Duration) error {
	t, err := parseTicket(id)
	if err != nil {
		return err
	}
	err = s.again(ctx, func() error {
		_, err := s.q.RetryOutbox(ctx, queries.RetryOutboxParams{
			Delay: after.Microseconds(), Tenant: t.tenant, Subscription: t.subscription, Seq: t.seq, Attempts: t.claim,
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("put delivery %s off: %w", id, err)
	}
	if after > 0 {
		return nil
	}
	// Given back: whoever can deliver it is to know.
	s.wake.signalOutbox()
	if err := s.wake.announce(ctx, s.db, s.q, topicOutbox); err != nil {
		s.log.Warn("tell other processes of a delivery that is due", "error", err)
	}
	return nil
}

// Discard drops all that is queued for a subscription.
func (s *Store) Discard(ctx context.Context, subscriptionID string) error {
	err := s.transact(ctx, func(x *tx) error {
		tenants, err := x.q.QueueTenants(ctx, subscriptionID)
		if err != nil {
			return err
		}
		for _, tenant := range tenants {
			if _, err := x.q.LockQueue(ctx, tenant, subscriptionID); err != nil {
				return lookup(err, "queue of subscription", subscriptionID)
			}
			if _, err := x.q.DeleteOutboxOf(ctx, tenant, subscriptionID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("discard the queue of subscription %s: %w", subscriptionID, err)
	}
	return nil
}

// NextDue is how long until the next delivery is due, by the database's clock.
func (s *Store) NextDue(ctx context.Context) (time.Duration, bool, error) {
	row, err := s.reader.q.NextDue(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("look up the next delivery: %w", err)
	}
	return max(0, time.Duration(row.Due-row.Now)*time.Microsecond), row.Due != 0, nil
}

// Wake is signalled when events may have been enqueued, by any process.
func (s *Store) Wake() <-chan struct{} { return s.wake.outbox }

// again repeats a single statement that got in the way of another.
func (s *Store) again(ctx context.Context, statement func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := statement()
		if err == nil || !retryable(err) || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
	}
}
