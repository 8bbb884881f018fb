package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	sqltree "github.com/isthmus-gateway/isthmus/sql"
)

// sqliteDDL says the few words of the migrations that SQLite knows by another
// name. Everything else is the same text on both engines.
var sqliteDDL = strings.NewReplacer(
	"BYTEA", "BLOB",
	"EXTRACT(EPOCH FROM clock_timestamp())", "unixepoch('subsec')",
	" WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.01)", "",
)

// migrate brings the schema up to date. Several processes may do so at once: on
// PostgreSQL they take turns by a lock, on SQLite the later one fails on what
// the earlier one made and looks again.
func migrate(ctx context.Context, db *database, log *slog.Logger) error {
	migrations, err := fs.Sub(sqltree.Migrations, "migrations")
	if err != nil {
		return err
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithSlog(log)}
	dialect, tries := goose.DialectPostgres, 1
	if db.engine == engineSQLite {
		dialect, tries = goose.DialectSQLite3, 10
		migrations = patchedFS{migrations, sqliteDDL}
	} else {
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
		if err != nil {
			return err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	for try := 1; ; try++ {
		if err = migrateOnce(ctx, dialect, db, migrations, options); err == nil || try == tries {
			break
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(time.Duration(try) * 20 * time.Millisecond):
		}
	}
	if err != nil {
		return fmt.Errorf("bring the database schema up to date: %w", err)
	}
	return nil
}

func migrateOnce(ctx context.Context, dialect goose.Dialect, db *database, migrations fs.FS, options []goose.ProviderOption) error {
	provider, err := goose.NewProvider(dialect, db.write, migrations, options...)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// patchedFS is a file system whose files are read with replacements.
type patchedFS struct {
	fs.FS
	replace *strings.Replacer
}

func (p patchedFS) Open(name string) (fs.File, error) {
	f, err := p.FS.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return f, err
	}
	content, err := io.ReadAll(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return patchedFile{f, bytes.NewReader([]byte(p.replace.Replace(string(content))))}, nil
}

type patchedFile struct {
	fs.File
	content *bytes.Reader
}

func (f patchedFile) Read(b []byte) (int, error) { return f.content.Read(b) }
