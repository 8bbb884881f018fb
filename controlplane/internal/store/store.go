package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store/queries"
)

type engine int

const (
	enginePostgres engine = iota + 1
	engineSQLite
)

// database is an open database of either engine.
type database struct {
	// write takes every statement, read those that only read.
	write, read *sql.DB
	engine      engine
	// listen is how to connect for LISTEN, nil on SQLite.
	listen *pgx.ConnConfig
	// synchronous of SQLite, as configured.
	synchronous string
}

func (d *database) close() error {
	if d.read == d.write {
		return d.write.Close()
	}
	return errors.Join(d.read.Close(), d.write.Close())
}

// keepConns lets a pool have n connections and keep them, as opening one costs
// far more than holding it.
func keepConns(db *sql.DB, n int) {
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
}

// Store is an open database. It is safe for concurrent use.
type Store struct {
	reader
	db     *database
	q      *queries.Queries
	seal   *sealer
	log    *slog.Logger
	wake   *waker
	holder holder
	// receiver of what this process records; nil while there is none.
	receiver atomic.Pointer[receiver]
	finished chan finished
	stop     context.CancelFunc
	worker   sync.WaitGroup
}

var (
	_ gateway.Store      = (*Store)(nil)
	_ gateway.Outbox     = (*Store)(nil)
	_ gateway.RelayStore = (*Store)(nil)
	_ gateway.Tx         = (*tx)(nil)

	_ gateway.SIPAccounts = (*Store)(nil)
)

// Open connects to the database, waiting for one that does not answer yet, brings
// its schema up to date and checks that the sealing key is the one it was sealed
// with. Close releases it.
func Open(ctx context.Context, c Config, log *slog.Logger) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	open := openSQLite
	if c.postgres() {
		open = openPostgres
	}
	db, err := open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	s, err := prepare(ctx, c, db, log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the store: %w", err), db.close())
	}
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.worker.Go(func() { s.watchLeases(background, log) })
	s.worker.Go(func() { s.finish(background) })
	if db.listen != nil {
		s.worker.Go(func() { s.wake.listen(background, db.listen, log) })
		s.worker.Go(func() { s.watchGrowth(background, log) })
	}
	return s, nil
}

func prepare(ctx context.Context, c Config, db *database, log *slog.Logger) (*Store, error) {
	if err := waitFor(ctx, db.write, c.ConnectTimeout, log); err != nil {
		return nil, err
	}
	// After the database file, beside which a key may be made.
	keys, err := c.keys()
	if err != nil {
		return nil, err
	}
	seal, err := newSealer(keys)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, db, log); err != nil {
		return nil, err
	}
	wake := newWaker()
	s := &Store{db: db, q: queries.New(db.write), seal: seal, log: log, wake: wake, holder: holder{id: wake.origin}, finished: make(chan finished)}
	s.reader = reader{q: queries.New(db.read), seal: seal}
	return s, s.checkKey(ctx)
}

func waitFor(ctx context.Context, db *sql.DB, patience time.Duration, log *slog.Logger) error {
	deadline := time.Now().Add(patience)
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !time.Now().Before(deadline) {
			return fmt.Errorf("the database does not answer: %w", err)
		}
		log.Warn("waiting for the database", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

const keyCheckSetting = "sealing_key_check"

// checkKey opens a blob that was sealed when the database was made, and seals it
// anew when the key has been rotated since.
func (s *Store) checkKey(ctx context.Context) error {
	sealed, err := sealJSON(s.seal, keyCheckSetting, keyCheckSetting)
	if err != nil {
		return err
	}
	if _, err := s.q.InsertSetting(ctx, keyCheckSetting, sealed); err != nil {
		return err
	}
	stored, err := s.q.Setting(ctx, keyCheckSetting)
	if err != nil {
		return err
	}
	if _, err := openJSON[string](s.seal, stored, keyCheckSetting); err != nil {
		return fmt.Errorf("the configured sealing keys do not fit this database: %w", err)
	}
	if [keyIDSize]byte(stored[1:]) == s.seal.current.id {
		return nil
	}
	return s.q.UpdateSetting(ctx, keyCheckSetting, sealed)
}

// Close ends what Open started. Nothing may be called after it.
func (s *Store) Close() error {
	s.stop()
	s.worker.Wait()
	return s.db.close()
}

// Ping answers an error when the database cannot serve.
func (s *Store) Ping(ctx context.Context) error {
	if _, err := s.reader.q.Now(ctx); err != nil {
		return fmt.Errorf("the database does not serve: %w", err)
	}
	return nil
}

// NewEpoch answers a number higher than any before.
func (s *Store) NewEpoch(ctx context.Context) (uint64, error) {
	n, err := s.q.NextCount(ctx, "epoch")
	if err != nil {
		return 0, fmt.Errorf("count a new epoch: %w", err)
	}
	return uint64(n), nil
}

// Update runs fn in one transaction, again when another one changed what it had
// read of what it changes. fn uses its Tx only: on SQLite it holds the one
// connection that writes, for which another Update would wait forever.
func (s *Store) Update(ctx context.Context, fn func(gateway.Tx) error) error {
	r := s.receiver.Load()
	var enqueued bool
	var deliveries []gateway.Delivery
	err := s.transact(ctx, func(t *tx) (err error) {
		enqueued, deliveries = false, nil
		if err := fn(t); err != nil || t.stale {
			return err
		}
		if deliveries, err = s.flush(ctx, t, r); err != nil {
			return err
		}
		for _, q := range t.queues {
			enqueued = enqueued || len(q.events) > 0
		}
		if !enqueued || r != nil {
			return nil
		}
		return s.wake.announce(ctx, s.db, t.q, topicOutbox)
	})
	switch {
	case err != nil:
		return err
	case r != nil:
		s.handOver(r, deliveries)
	case enqueued:
		s.wake.signalOutbox()
	}
	return nil
}

// patience with transactions that get in each other's way.
const patience = 30 * time.Second

func (s *Store) transact(ctx context.Context, fn func(*tx) error) error {
	return s.repeat(ctx, func() error { return s.try(ctx, s.db.write, fn) })
}

// repeat runs a transaction again when another one was in its way.
func (s *Store) repeat(ctx context.Context, try func() error) error {
	deadline := time.Now().Add(patience)
	for delay := time.Millisecond; ; delay = min(2*delay, 50*time.Millisecond) {
		err := try()
		if err == nil || !retryable(err) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the transaction met others for %s: %w", patience, err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(delay/2 + rand.N(delay)):
		}
	}
}

// beginner is a database or one of its connections.
type beginner interface {
	BeginTx(ctx context.Context, options *sql.TxOptions) (*sql.Tx, error)
}

func (s *Store) try(ctx context.Context, on beginner, fn func(*tx) error) error {
	t, err := on.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	// Without effect once it is committed.
	defer t.Rollback()
	x := &tx{reader: reader{q: s.q.WithTx(t), seal: s.seal, memory: newMemory()}, queues: map[string]*queueChange{}}
	err = fn(x)
	if x.stale {
		// Whatever fn made of it.
		return errStale
	}
	if err != nil {
		return err
	}
	if err := t.Commit(); err != nil {
		return fmt.Errorf("commit a transaction: %w", err)
	}
	for _, f := range x.committed {
		f()
	}
	return nil
}

func retryable(err error) bool {
	return errors.Is(err, errStale) || postgresRetry(err) || sqliteRetry(err)
}
