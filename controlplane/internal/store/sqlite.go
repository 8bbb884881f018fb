package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver named sqlite
	sqlitelib "modernc.org/sqlite"
)

// Primary result codes of SQLite that mean: try again.
const (
	sqliteBusy   = 5
	sqliteLocked = 6
)

// sqliteLocation is the path of the database file, or memory.
func sqliteLocation(dsn string) (path string, memory bool, err error) {
	name, query, _ := strings.Cut(dsn, "?")
	if uri, ok := strings.CutPrefix(name, "file:"); ok {
		name = uri
		if path, err = url.PathUnescape(strings.TrimPrefix(name, "//")); err != nil {
			return "", false, fmt.Errorf("%q is not a file: URI: %w", dsn, err)
		}
	} else {
		path, query = dsn, ""
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", false, fmt.Errorf("%q has a query that cannot be read: %w", dsn, err)
	}
	if path == ":memory:" || values.Get("mode") == "memory" {
		return "", true, nil
	}
	if path == "" {
		return "", false, fmt.Errorf("%q names no file", dsn)
	}
	return path, false, nil
}

func dirOf(path string) string { return filepath.Dir(path) }

// openSQLite opens one connection to write, as writers take turns anyway and
// wait better for each other here than by polling the file's lock, and a pool
// to read. In memory there is one connection for both.
func openSQLite(_ context.Context, c Config) (*database, error) {
	path, memory, err := sqliteLocation(c.DSN)
	if err != nil {
		return nil, err
	}
	if memory {
		db, err := sql.Open("sqlite", "file::memory:?_txlock=immediate")
		if err != nil {
			return nil, err
		}
		keepConns(db, 1)
		return &database{write: db, read: db, engine: engineSQLite, synchronous: c.SQLiteSync}, nil
	}
	if err := os.MkdirAll(dirOf(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the database: %w", err)
	}
	// SQLite would make it readable for everybody.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	f.Close()
	uri := func(params ...string) string {
		_, query, _ := strings.Cut(c.DSN, "?")
		if strings.HasPrefix(c.DSN, "file:") && query != "" {
			params = append(params, query)
		}
		return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: strings.Join(params, "&")}).String()
	}
	common := []string{"_pragma=busy_timeout(10000)", "_pragma=journal_mode(WAL)", "_pragma=synchronous(" + c.SQLiteSync + ")"}
	write, err := sql.Open("sqlite", uri(append(common, "_txlock=immediate")...))
	if err != nil {
		return nil, err
	}
	keepConns(write, 1)
	read, err := sql.Open("sqlite", uri(append(common, "_pragma=query_only(1)")...))
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	keepConns(read, max(1, c.MaxConns-1))
	return &database{write: write, read: read, engine: engineSQLite, synchronous: c.SQLiteSync}, nil
}

func sqliteRetry(err error) bool {
	var e *sqlitelib.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xff
	return code == sqliteBusy || code == sqliteLocked
}
