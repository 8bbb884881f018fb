-- name: KeepAlive :exec
INSERT INTO processes (id, alive_until) VALUES (sqlc.arg(id), (SELECT c.micros FROM clock c) + sqlc.arg(ttl))
ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until;

-- name: DeadProcesses :many
SELECT id FROM processes WHERE alive_until < (SELECT c.micros FROM clock c);

-- name: ReleaseLeases :execrows
UPDATE outbox SET next_attempt_at = (SELECT c.micros FROM clock c), lease_until = 0
WHERE holder = sqlc.arg(holder) AND lease_until > 0 AND next_attempt_at > 0;

-- name: ForgetProcess :execrows
DELETE FROM processes WHERE id = sqlc.arg(id) AND alive_until < (SELECT c.micros FROM clock c);
