-- name: InsertSession :execrows
INSERT INTO media_sessions (tenant, id, issuer, client_id, subject, call_id, registration_id, client_correlator, version, created_at, ended_at, data)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT DO NOTHING;

-- name: UpdateSession :execrows
UPDATE media_sessions
SET call_id = sqlc.arg(call_id), registration_id = sqlc.arg(registration_id), client_correlator = sqlc.arg(client_correlator),
    ended_at = sqlc.arg(ended_at), data = sqlc.arg(data), version = version + 1
WHERE tenant = sqlc.arg(tenant) AND id = sqlc.arg(id) AND version = sqlc.arg(version);

-- name: Session :one
SELECT * FROM media_sessions WHERE tenant = $1 AND id = $2;

-- name: SessionsByCall :many
SELECT * FROM media_sessions WHERE call_id = $1 ORDER BY created_at, id;

-- name: LiveSessionsByRegistration :many
SELECT * FROM media_sessions
WHERE registration_id = $1 AND ended_at = 0
ORDER BY created_at, id;

-- name: SessionByCorrelator :one
SELECT * FROM media_sessions
WHERE registration_id = sqlc.arg(registration_id) AND ended_at = 0 AND client_correlator = sqlc.arg(client_correlator)
  AND tenant = sqlc.arg(tenant) AND issuer = sqlc.arg(issuer) AND client_id = sqlc.arg(client_id)
  AND (subject = sqlc.arg(subject) OR sqlc.arg(subject) = '')
ORDER BY created_at DESC, id DESC
LIMIT 1;

-- name: DeleteSessionsEndedBefore :exec
DELETE FROM media_sessions WHERE ended_at > 0 AND ended_at < sqlc.arg(until);

-- name: InsertCall :execrows
INSERT INTO calls (tenant, id, sip_call_id, local_tag, created_at, data, version)
VALUES ($1, $2, $3, $4, $5, $6, 0)
ON CONFLICT DO NOTHING;

-- name: UpdateCall :execrows
UPDATE calls
SET sip_call_id = sqlc.arg(sip_call_id), local_tag = sqlc.arg(local_tag), data = sqlc.arg(data), version = version + 1
WHERE tenant = sqlc.arg(tenant) AND id = sqlc.arg(id)
  AND version = CASE WHEN CAST(sqlc.arg(seen) AS BIGINT) < 0 THEN version ELSE CAST(sqlc.arg(seen) AS BIGINT) END;

-- name: DeleteCall :execrows
DELETE FROM calls WHERE id = $1;

-- name: Call :one
SELECT * FROM calls WHERE id = $1;

-- name: Calls :many
SELECT * FROM calls ORDER BY created_at, id;

-- name: CallByDialog :one
SELECT * FROM calls
WHERE sip_call_id = sqlc.arg(sip_call_id) AND sip_call_id <> '' AND local_tag = sqlc.arg(local_tag)
ORDER BY created_at DESC
LIMIT 1;
