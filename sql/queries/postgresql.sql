-- What only PostgreSQL has.

-- name: Notify :exec
SELECT pg_notify(sqlc.arg(channel), sqlc.arg(payload));
