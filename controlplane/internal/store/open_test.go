package store_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/store"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/pgtest"
)

var discard = slog.New(slog.DiscardHandler)

// Several processes may start on an empty database at once.
func TestOpenTogether(t *testing.T) {
	for name, dsn := range map[string]func() string{
		"sqlite":   func() string { return filepath.Join(t.TempDir(), "deep", "er", "test.db") },
		"postgres": func() string { return pgtest.Start(t) },
	} {
		t.Run(name, func(t *testing.T) {
			c := store.Default()
			c.DSN, c.SealingKey, c.MaxConns = dsn(), newKey(), 4
			var all sync.WaitGroup
			for range 5 {
				all.Go(func() {
					s, err := store.Open(t.Context(), c, discard)
					if err != nil {
						t.Error(err)
						return
					}
					if err := s.Ping(t.Context()); err != nil {
						t.Error(err)
					}
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		})
	}
}

func TestReopen(t *testing.T) {
	onDisk(t, func(t *testing.T, s *bundle) {
		m := s.session(t, nil)
		sub := s.subscription(t, nil)
		s.enqueue(t, sub.ID, event(1))
		again := s.open(t)
		if got, err := again.Session(t.Context(), anna.Tenant, m.ID); err != nil || got.Offer != m.Offer {
			t.Errorf("session: %+v, %v", got, err)
		}
		claimOne(t, again, 1, "event-001")
	})
}

func TestKeyRotation(t *testing.T) {
	onDisk(t, func(t *testing.T, s *bundle) {
		old := s.session(t, nil)
		rotated := *s
		rotated.config.SealingKey = newKey()
		if _, err := store.Open(t.Context(), rotated.config, discard); err == nil || !strings.Contains(err.Error(), "sealing key") {
			t.Fatalf("opened with a foreign key: %v", err)
		}
		rotated.config.PreviousSealingKeys = []string{s.config.SealingKey}
		rotated.Store = rotated.open(t)
		if got, err := rotated.Session(t.Context(), anna.Tenant, old.ID); err != nil || got.Offer != old.Offer {
			t.Errorf("what the old key sealed: %+v, %v", got, err)
		}
		fresh := rotated.session(t, nil)
		if _, err := s.Session(t.Context(), anna.Tenant, fresh.ID); err == nil {
			t.Error("what the new key sealed opens with the old one")
		}
	})
}

// Nothing secret rests in the clear.
func TestSealedAtRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	c := store.Default()
	c.DSN = path
	s, err := store.Open(t.Context(), c, discard)
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{Store: s, config: c}
	b.session(t, nil)
	sub := b.subscription(t, nil)
	b.enqueue(t, sub.ID, event(1))
	update(t, s, func(tx gateway.Tx) error {
		return tx.InsertCall(t.Context(), gateway.Call{
			ID: newID(), Tenant: anna.Tenant, Dialog: gateway.Dialog{SIPCallID: "visible-call-id", State: []byte("dialog-secret")},
			Media: gateway.MediaPlan{Browsers: []gateway.BrowserLeg{{Password: "ice-secret", Identity: gateway.Identity{PrivateKey: []byte("dtls-secret")}}}},
		})
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var rest []byte
	for _, name := range []string{path, path + "-wal"} {
		content, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		rest = append(rest, content...)
	}
	if !bytes.Contains(rest, []byte("visible-call-id")) {
		t.Fatal("looked at the wrong file")
	}
	// Bytes are base64 inside JSON: what dialog-secret and dtls-secret become.
	for _, secret := range []string{"-secret", "ZGlhbG9nLXNlY3JldA", "ZHRscy1zZWNyZXQ"} {
		if bytes.Contains(rest, []byte(secret)) {
			t.Errorf("%q is in the file", secret)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
}

// An SQLite database without a configured key makes one beside it and finds it
// again.
func TestKeyFileIsMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	c := store.Default()
	c.DSN = "file:" + path
	for range 2 {
		s, err := store.Open(t.Context(), c, discard)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path + ".key")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v, %v", info, err)
	}
	if err := os.Remove(path + ".key"); err != nil {
		t.Fatal(err)
	}
	if s, err := store.Open(t.Context(), c, discard); err == nil {
		s.Close()
		t.Error("opened with another key than it was sealed with")
	}
}

func TestConfigValidate(t *testing.T) {
	if err := store.Default().Validate(); err != nil {
		t.Error(err)
	}
	cases := []struct {
		name   string
		change func(*store.Config)
		want   string
	}{
		{"no DSN", func(c *store.Config) { c.DSN = "" }, "dsn"},
		{"no file", func(c *store.Config) { c.DSN = "file:" }, "dsn"},
		{"PostgreSQL without key", func(c *store.Config) { c.DSN = "postgres:///x" }, "sealing_key"},
		{"two keys", func(c *store.Config) { c.SealingKey, c.SealingKeyFile = newKey(), "x" }, "sealing_key"},
		{"short key", func(c *store.Config) { c.SealingKey = "AAAA" }, "3 bytes"},
		{"no base64", func(c *store.Config) { c.SealingKey = "!" }, "base64"},
		{"bad previous key", func(c *store.Config) { c.PreviousSealingKeys = []string{"AAAA"} }, "previous_sealing_keys[0]"},
		{"one connection", func(c *store.Config) { c.MaxConns = 1 }, "max_conns"},
		{"endless wait", func(c *store.Config) { c.ConnectTimeout = -1 }, "connect_timeout"},
		{"unknown sync", func(c *store.Config) { c.SQLiteSync = "off" }, "sqlite_sync"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := store.Default()
			tc.change(&c)
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error about %s", err, tc.want)
			}
		})
	}
}

func TestUnreachableDatabase(t *testing.T) {
	c := store.Default()
	c.DSN, c.SealingKey, c.ConnectTimeout = "postgres:///x?host=/nonexistent", newKey(), 0
	if _, err := store.Open(t.Context(), c, discard); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("got %v", err)
	}
}
