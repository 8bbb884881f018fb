package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store/queries"
)

func relayChannelPlace(tenant, id string) string { return place("relay_channels", tenant, id) }

func relayEventPlace(tenant, channel string, seq int64) string {
	return place("relay_events", tenant, channel, strconv.FormatInt(seq, 10))
}

func (r reader) relayChannel(row queries.RelayChannel) (gateway.RelayChannel, error) {
	credentials, err := openJSON[[]gateway.RelayCredential](r.seal, row.Data, relayChannelPlace(row.Tenant, row.ID))
	return gateway.RelayChannel{
		ID: row.ID,
		Owner: call.Owner{
			Tenant: row.Tenant, Issuer: row.Issuer, ClientID: row.ClientID, Subject: call.Number(row.Subject),
		},
		SinkKey:     row.SinkKey,
		Credentials: credentials,
		CreatedAt:   fromMicros(row.CreatedAt),
		LastSeq:     row.LastSeq,
		Closed:      row.ClosedAt != 0,
	}, err
}

// OpenRelayChannel adds a channel, unless its owner has as many as it may.
func (s *Store) OpenRelayChannel(ctx context.Context, c gateway.RelayChannel, most int) error {
	data, err := sealJSON(s.seal, c.Credentials, relayChannelPlace(c.Owner.Tenant, c.ID))
	if err != nil {
		return err
	}
	return s.transact(ctx, func(t *tx) error {
		if err := t.LockOwner(ctx, c.Owner); err != nil {
			return err
		}
		n, err := t.q.CountRelayChannels(ctx, queries.CountRelayChannelsParams{
			Tenant: c.Owner.Tenant, Issuer: c.Owner.Issuer, ClientID: c.Owner.ClientID, Subject: string(c.Owner.Subject),
		})
		if err != nil {
			return lookup(err, "number of", "relay channels")
		}
		if n >= int64(most) {
			return fmt.Errorf("open a relay channel beside %d others: %w", n, gateway.ErrLimit)
		}
		n, err = t.q.InsertRelayChannel(ctx, queries.InsertRelayChannelParams{
			Tenant: c.Owner.Tenant, ID: c.ID, Issuer: c.Owner.Issuer, ClientID: c.Owner.ClientID, Subject: string(c.Owner.Subject),
			SinkKey: c.SinkKey, CreatedAt: micros(c.CreatedAt), Data: data,
		})
		return inserted(n, err, "relay channel", c.ID)
	})
}

// RelayChannel finds a channel by id.
func (s *Store) RelayChannel(ctx context.Context, id string) (gateway.RelayChannel, error) {
	row, err := s.reader.q.RelayChannel(ctx, id)
	if err != nil {
		return gateway.RelayChannel{}, lookup(err, "relay channel", id)
	}
	return s.relayChannel(row)
}

// RelayChannelBySink finds a channel by the secret of its sink.
func (s *Store) RelayChannelBySink(ctx context.Context, sinkKey string) (gateway.RelayChannel, error) {
	row, err := s.reader.q.RelayChannelBySink(ctx, sinkKey)
	if err != nil {
		return gateway.RelayChannel{}, lookup(err, "relay channel by", "its sink")
	}
	return s.relayChannel(row)
}

// SetRelayCredentials replaces the credentials of an open channel.
func (s *Store) SetRelayCredentials(ctx context.Context, c gateway.RelayChannel) error {
	data, err := sealJSON(s.seal, c.Credentials, relayChannelPlace(c.Owner.Tenant, c.ID))
	if err != nil {
		return err
	}
	return s.again(ctx, func() error {
		n, err := s.q.SetRelayChannelData(ctx, queries.SetRelayChannelDataParams{Data: data, Tenant: c.Owner.Tenant, ID: c.ID})
		return changed(n, err, "relay channel", c.ID)
	})
}

// TouchRelayChannel notes that a channel is in use and what was written.
func (s *Store) TouchRelayChannel(ctx context.Context, id string, delivered int64) error {
	return s.again(ctx, func() error {
		n, err := s.q.TouchRelayChannel(ctx, delivered, id)
		return changed(n, err, "relay channel", id)
	})
}

// CloseRelayChannel closes a channel for good.
func (s *Store) CloseRelayChannel(ctx context.Context, id string) error {
	return s.changeRelay(ctx, id, func(t *tx) error {
		tenant, err := t.q.CloseRelayChannel(ctx, id)
		if err != nil {
			return lookup(err, "open relay channel", id)
		}
		return t.q.DeleteRelayEventsOf(ctx, tenant, id)
	})
}

// changeRelay runs a transaction and tells every process that a channel changed.
func (s *Store) changeRelay(ctx context.Context, id string, change func(*tx) error) error {
	err := s.transact(ctx, func(t *tx) error {
		if err := change(t); err != nil {
			return err
		}
		return s.wake.announce(ctx, s.db, t.q, topicRelay+id)
	})
	if err == nil {
		s.wake.signalRelay(id)
	}
	return err
}

// errStored rolls back what a repeated event has begun.
var errStored = errors.New("the event is stored already")

// AppendRelayEvent stores an event once. The channel's row is locked first, so
// that the events of a channel become visible in the order of their numbers.
func (s *Store) AppendRelayEvent(ctx context.Context, channelID string, e gateway.RelayEvent, most int) error {
	err := s.changeRelay(ctx, channelID, func(t *tx) error {
		next, err := t.q.NextRelaySeq(ctx, channelID)
		if err != nil {
			return lookup(err, "open relay channel", channelID)
		}
		there, err := t.q.HasRelayEvent(ctx, queries.HasRelayEventParams{Tenant: next.Tenant, Channel: channelID, EventKey: e.Key})
		if err != nil {
			return err
		}
		if there > 0 {
			return errStored
		}
		if err := t.makeRoom(ctx, channelID, next, int64(most)); err != nil {
			return err
		}
		data, err := t.seal.seal(e.Body, relayEventPlace(next.Tenant, channelID, next.LastSeq))
		if err != nil {
			return err
		}
		return t.q.InsertRelayEvent(ctx, queries.InsertRelayEventParams{
			Tenant: next.Tenant, Channel: channelID, Seq: next.LastSeq, EventKey: e.Key, IDKey: e.IDKey, Data: data,
		})
	})
	if errors.Is(err, errStored) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("append to relay channel %s: %w", channelID, err)
	}
	return nil
}

// makeRoom drops the oldest events that were written to a stream, as far as the
// next one needs it.
func (t *tx) makeRoom(ctx context.Context, channelID string, next queries.NextRelaySeqRow, most int64) error {
	first, err := t.q.FirstRelaySeq(ctx, next.Tenant, channelID)
	if err != nil {
		return err
	}
	if first == 0 || next.LastSeq-first < most {
		return nil
	}
	if next.DeliveredSeq < next.LastSeq-most {
		return gateway.ErrFull
	}
	_, err = t.q.DeleteRelayEventsUpTo(ctx, queries.DeleteRelayEventsUpToParams{
		Tenant: next.Tenant, Channel: channelID, Seq: next.LastSeq - most,
	})
	return err
}

// RelayEvents lists what an open channel holds after a number.
func (s *Store) RelayEvents(ctx context.Context, channelID string, after int64, limit int) ([]gateway.RelayEvent, error) {
	rows, err := s.reader.q.RelayEvents(ctx, queries.RelayEventsParams{Channel: channelID, After: after, Most: int32(limit)})
	return each(rows, func(row queries.RelayEvent) (gateway.RelayEvent, error) {
		body, err := s.seal.open(row.Data, relayEventPlace(row.Tenant, row.Channel, row.Seq))
		return gateway.RelayEvent{Seq: row.Seq, Key: row.EventKey, IDKey: row.IDKey, Body: body}, err
	}, lookup(err, "events of relay channel", channelID))
}

// RelayPosition is the number of the first event with an id.
func (s *Store) RelayPosition(ctx context.Context, channelID, idKey string) (int64, error) {
	seq, err := s.reader.q.RelayPosition(ctx, channelID, idKey)
	if err == nil && seq == 0 {
		err = gateway.ErrNotFound
	}
	return seq, lookup(err, "an event of relay channel", channelID)
}

// PutRelayTicket keeps a ticket for an open channel.
func (s *Store) PutRelayTicket(ctx context.Context, t gateway.RelayTicket) error {
	return s.again(ctx, func() error {
		n, err := s.q.InsertRelayTicket(ctx, queries.InsertRelayTicketParams{
			TicketKey: t.Key, ExpiresAt: micros(t.Expires), Authorized: micros(t.Authorized), Channel: t.ChannelID,
		})
		return changed(n, err, "relay channel", t.ChannelID)
	})
}

// TakeRelayTicket finds a ticket and removes it.
func (s *Store) TakeRelayTicket(ctx context.Context, key string) (gateway.RelayTicket, error) {
	var row queries.TakeRelayTicketRow
	err := s.again(ctx, func() (err error) {
		row, err = s.q.TakeRelayTicket(ctx, key)
		return err
	})
	return gateway.RelayTicket{
		Key: key, ChannelID: row.Channel, Expires: fromMicros(row.ExpiresAt), Authorized: fromMicros(row.Authorized),
	}, lookup(err, "relay", "ticket")
}

// SweepRelay closes, drops and forgets what has had its time.
func (s *Store) SweepRelay(ctx context.Context, idle, age, remember time.Duration) ([]string, error) {
	var closed []string
	err := s.transact(ctx, func(t *tx) error {
		closed = nil
		rows, err := t.q.CloseIdleRelayChannels(ctx, idle.Microseconds())
		if err != nil {
			return err
		}
		for _, row := range rows {
			closed = append(closed, row.ID)
			if err := t.q.DeleteRelayEventsOf(ctx, row.Tenant, row.ID); err != nil {
				return err
			}
			if err := s.wake.announce(ctx, s.db, t.q, topicRelay+row.ID); err != nil {
				return err
			}
		}
		return errors.Join(
			t.q.DeleteOldRelayEvents(ctx, age.Microseconds()),
			t.q.ForgetRelayChannels(ctx, remember.Microseconds()),
			t.q.DeleteOldRelayTickets(ctx))
	})
	if err != nil {
		return nil, fmt.Errorf("sweep the relay: %w", err)
	}
	for _, id := range closed {
		s.wake.signalRelay(id)
	}
	return closed, nil
}

// RelayWake tells the ids of channels that changed, by any process.
func (s *Store) RelayWake() <-chan string { return s.wake.relay }
