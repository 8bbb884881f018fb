// Package pgtest runs a real PostgreSQL server for tests. It serves one test
// process, starts at the first use and is gone with the process, however that
// ends: the server's keeper waits for the end of a pipe that only the test
// process holds open.
//
// PostgreSQL refuses to run as root; under root it runs as user postgres or
// nobody. Nothing is synced to disk, as nothing is meant to outlive the test.
package pgtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The server of this process, made once.
var start = sync.OnceValues(newServer)

var errNotInstalled = errors.New("PostgreSQL is not installed: there is no initdb in /usr/lib/postgresql/*/bin or PATH (Debian package postgresql)")

// superuser of the server; local connections need no password.
const superuser = "isthmus"

type server struct {
	// dir holds the data and the socket.
	dir string
	// lifeline keeps the server running while it is open.
	lifeline *os.File
}

// Start answers the URL of a new, empty database, which is dropped when the test
// ends. It skips the test when PostgreSQL is not installed.
func Start(t testing.TB) (dsn string) {
	t.Helper()
	s, err := start()
	if errors.Is(err, errNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	name := "test_" + strings.ToLower(rand.Text())
	if err := s.exec(`CREATE DATABASE ` + name); err != nil {
		t.Fatalf("create a database: %v", err)
	}
	t.Cleanup(func() {
		if err := s.exec(`DROP DATABASE ` + name + ` WITH (FORCE)`); err != nil {
			t.Errorf("drop the database: %v", err)
		}
	})
	return s.dsn(name)
}

func (s *server) dsn(database string) string {
	query := url.Values{"host": {s.dir}, "user": {superuser}}
	return "postgres:///" + database + "?" + query.Encode()
}

func (s *server) exec(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.dsn("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// keeper runs the server until its standard input ends. It removes what the
// server leaves. $1 is the directory with the programs, $2 the server's.
const keeper = `
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c full_page_writes=off \
	-c synchronous_commit=off -c max_connections=300 -c shared_buffers=64MB -c timezone=UTC >"$2/log" 2>&1 &
read -r _
kill -INT $!
wait
rm -rf "$2"
`

func newServer() (*server, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	credential, err := unprivileged()
	if err != nil {
		return nil, err
	}
	// Not t.TempDir: a socket's path has at most 107 characters.
	dir, err := os.MkdirTemp("/tmp", "isthmus-pg-")
	if err != nil {
		return nil, err
	}
	attr := &syscall.SysProcAttr{Setpgid: true}
	if credential != nil {
		attr.Credential = credential
		if err := os.Chown(dir, int(credential.Uid), int(credential.Gid)); err != nil {
			return nil, err
		}
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"),
		"-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = dir, attr
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w\n%s", err, bytes.TrimSpace(out)), os.RemoveAll(dir))
	}
	input, lifeline, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer input.Close()
	keep := exec.Command("/bin/sh", "-c", keeper, "keeper", bin, dir)
	keep.Dir, keep.Stdin, keep.SysProcAttr = dir, input, attr
	if err := keep.Start(); err != nil {
		return nil, err
	}
	s := &server{dir: dir, lifeline: lifeline}
	return s, s.await()
}

// await waits until the server answers.
func (s *server) await() error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := s.exec("SELECT 1")
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("the server does not answer: %w\n%s", errors.Join(err, s.lifeline.Close()), log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// programs finds the directory with initdb and postgres, of the newest version.
func programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
		return filepath.Dir(found[len(found)-1]), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", errNotInstalled
	}
	return filepath.Dir(path), nil
}

func version(initdb string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(initdb))))
	return n
}

// unprivileged says as whom to run: nil for the user of the test, unless that is
// root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}
