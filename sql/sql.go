// Package sql holds the project's SQL: the migrations, which the store applies
// when it opens a database, and beside them the queries, from which sqlc makes
// the store's code.
//
// Both engines, PostgreSQL and SQLite, run the same text. It keeps to what both
// understand: times are BIGINT microseconds since 1970, identifiers and
// enumerations TEXT, flags are numbers with a meaning of their own; there are no
// casts with two colons, arrays, now() or FOR UPDATE. The few words of DDL that
// SQLite has no equal for are replaced by the store as it migrates.
package sql

import "embed"

// Migrations in the form of goose, under migrations/.
//
//go:embed migrations/*.sql
var Migrations embed.FS
