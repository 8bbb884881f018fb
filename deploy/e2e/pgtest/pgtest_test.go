package pgtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/pgtest"
)

// TestDatabasesAreSeparate also shows that one server serves all calls.
func TestDatabasesAreSeparate(t *testing.T) {
	ctx := t.Context()
	first, second := pgtest.Start(t), pgtest.Start(t)
	if first == second {
		t.Fatalf("both are %s", first)
	}
	var started [2]string
	for i, dsn := range []string{first, second} {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		// Fails when the other database's table is visible here.
		if _, err := conn.Exec(ctx, "CREATE TABLE probe (id INT)"); err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRow(ctx, "SELECT pg_postmaster_start_time()::text").Scan(&started[i]); err != nil {
			t.Fatal(err)
		}
	}
	if started[0] != started[1] {
		t.Errorf("two servers, started at %s and %s", started[0], started[1])
	}
}
