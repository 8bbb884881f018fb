-- What only PostgreSQL has.

-- name: Notify :exec
SELECT pg_notify(sqlc.arg(channel), sqlc.arg(payload));

-- name: CommitLazily :exec
SELECT set_config('synchronous_commit', 'off', true);
