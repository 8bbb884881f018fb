package store

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Config says where the store is and how it is sealed.
type Config struct {
	DSN                 string        `yaml:"dsn" secret:"true" help:"database: postgres://user:password@host/database, or the path of an SQLite file (file: URIs and :memory: are understood too)"`
	SealingKey          string        `yaml:"sealing_key" secret:"true" help:"key that secrets in the database are sealed with: 32 bytes in base64"`
	SealingKeyFile      string        `yaml:"sealing_key_file" help:"file with sealing keys, one per line in base64: the first seals, all of them open. Without key and file, an SQLite database has a file of its own name with .key appended, made when missing"`
	PreviousSealingKeys []string      `yaml:"previous_sealing_keys" secret:"true" help:"keys that were in use before and still open what they sealed"`
	MaxConns            int           `yaml:"max_conns" help:"most connections to the database, 2 to 1000"`
	ConnectTimeout      time.Duration `yaml:"connect_timeout" help:"how long to wait at start for a database that does not answer yet, 0s to 10m"`
	SQLiteSync          string        `yaml:"sqlite_sync" help:"full: a commit survives a power failure; normal: only a crash of the process, but commits are faster"`
}

// Default is a file named isthmus.db in the working directory.
func Default() Config {
	return Config{
		DSN:            "isthmus.db",
		MaxConns:       16,
		ConnectTimeout: 30 * time.Second,
		SQLiteSync:     "full",
	}
}

// Validate reports everything that is wrong, by key. It does not read files.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.DSN == "" {
		bad("dsn: must name a database, postgres://… or the path of an SQLite file")
	}
	if _, _, err := sqliteLocation(c.DSN); c.DSN != "" && !c.postgres() && err != nil {
		bad("dsn: %w", err)
	}
	if c.SealingKey != "" && c.SealingKeyFile != "" {
		bad("sealing_key and sealing_key_file: only one of them can be set")
	}
	if c.postgres() && c.SealingKey == "" && c.SealingKeyFile == "" {
		bad("sealing_key: PostgreSQL needs one, the same for every process: 32 random bytes in base64, or sealing_key_file")
	}
	if c.SealingKey != "" {
		if _, err := decodeKey(c.SealingKey); err != nil {
			bad("sealing_key: %w", err)
		}
	}
	for i, k := range c.PreviousSealingKeys {
		if _, err := decodeKey(k); err != nil {
			bad("previous_sealing_keys[%d]: %w", i, err)
		}
	}
	if c.MaxConns < 2 || c.MaxConns > 1000 {
		bad("max_conns: %d is outside 2 to 1000", c.MaxConns)
	}
	if c.ConnectTimeout < 0 || c.ConnectTimeout > 10*time.Minute {
		bad("connect_timeout: %s is outside 0s to 10m", c.ConnectTimeout)
	}
	if c.SQLiteSync != "full" && c.SQLiteSync != "normal" {
		bad("sqlite_sync: %q is neither full nor normal", c.SQLiteSync)
	}
	return errors.Join(errs...)
}

func (c Config) postgres() bool {
	return strings.HasPrefix(c.DSN, "postgres://") || strings.HasPrefix(c.DSN, "postgresql://")
}

// keys are the sealing keys, the one that seals first.
func (c Config) keys() ([][]byte, error) {
	var keys [][]byte
	file := c.SealingKeyFile
	switch {
	case c.SealingKey != "":
		k, err := decodeKey(c.SealingKey)
		if err != nil {
			return nil, fmt.Errorf("sealing_key: %w", err)
		}
		keys = append(keys, k)
	case file == "":
		path, memory, err := sqliteLocation(c.DSN)
		if err != nil {
			return nil, err
		}
		if memory {
			k := make([]byte, keySize)
			rand.Read(k)
			keys = append(keys, k)
			break
		}
		file = path + ".key"
	}
	if file != "" {
		fromFile, err := readKeyFile(file, !c.postgres())
		if err != nil {
			return nil, err
		}
		keys = append(keys, fromFile...)
	}
	for i, s := range c.PreviousSealingKeys {
		k, err := decodeKey(s)
		if err != nil {
			return nil, fmt.Errorf("previous_sealing_keys[%d]: %w", i, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func decodeKey(s string) ([]byte, error) {
	k, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil {
		return nil, errors.New("is not base64")
	}
	if len(k) != keySize {
		return nil, fmt.Errorf("has %d bytes instead of %d", len(k), keySize)
	}
	return k, nil
}

// readKeyFile reads the keys in a file; create makes it with a new one when it
// does not exist.
func readKeyFile(path string, create bool) ([][]byte, error) {
	if create {
		if err := createKeyFile(path); err != nil {
			return nil, fmt.Errorf("make the sealing key file %s: %w", path, err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the sealing keys: %w", err)
	}
	var keys [][]byte
	lines := bufio.NewScanner(bytes.NewReader(content))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, err := decodeKey(line)
		if err != nil {
			return nil, fmt.Errorf("sealing key in %s, line %d: %w", path, n, err)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no sealing key", path)
	}
	return keys, nil
}

// createKeyFile makes the file, complete from the moment it can be seen, unless
// it is there.
func createKeyFile(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	key := make([]byte, keySize)
	rand.Read(key)
	f, err := os.CreateTemp(dirOf(path), ".sealing-key-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintf(f, "# Sealing key of an Isthmus database. Without it the database cannot be read.\n%s\n", base64.StdEncoding.EncodeToString(key))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	// A link fails when another process was first, whose key then counts.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}
