-- name: LockOwner :exec
INSERT INTO owner_locks (tenant, issuer, client_id, subject, taken)
VALUES ($1, $2, $3, $4, 1)
ON CONFLICT (tenant, issuer, client_id, subject) DO UPDATE SET taken = owner_locks.taken + 1;

-- name: NextCount :one
INSERT INTO counters (name, value) VALUES ($1, 1)
ON CONFLICT (name) DO UPDATE SET value = counters.value + 1
RETURNING value;

-- name: Now :one
SELECT micros FROM clock;

-- name: InsertSetting :execrows
INSERT INTO settings (name, data) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: UpdateSetting :exec
UPDATE settings SET data = $2 WHERE name = $1;

-- name: Setting :one
SELECT data FROM settings WHERE name = $1;
