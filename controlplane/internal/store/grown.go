package store

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

// watchGrowth is for PostgreSQL, which keeps the plan of a statement until the
// statistics of its tables are new: one that was made when they were empty reads
// them whole when they are not. Autovacuum would see to that within a minute or
// two, in which many devices may come.
func (s *Store) watchGrowth(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	for {
		if err := s.analyzeGrown(ctx); err != nil && ctx.Err() == nil {
			log.Warn("renew the statistics of tables that have grown", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// tablesGrown lists the tables whose statistics are of far less than they hold.
// The view is the server's own, which the generator of the queries does not know.
const tablesGrown = `SELECT relname FROM pg_stat_user_tables
WHERE schemaname = current_schema() AND n_mod_since_analyze > 1000 + n_live_tup / 2`

func (s *Store) analyzeGrown(ctx context.Context) error {
	rows, err := s.db.read.QueryContext(ctx, tablesGrown)
	if err != nil {
		return err
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		tables = append(tables, name)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, t := range tables {
		if _, err := s.db.write.ExecContext(ctx, "ANALYZE "+pgx.Identifier{t}.Sanitize()); err != nil {
			return err
		}
	}
	return nil
}
