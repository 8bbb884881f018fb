-- name: InsertRegistration :execrows
INSERT INTO registrations (tenant, id, issuer, client_id, subject, device_id, created_at, expires_at, version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)
ON CONFLICT DO NOTHING;

-- name: UpdateRegistration :execrows
UPDATE registrations
SET issuer = sqlc.arg(issuer), client_id = sqlc.arg(client_id), subject = sqlc.arg(subject),
    device_id = sqlc.arg(device_id), expires_at = sqlc.arg(expires_at), version = version + 1
WHERE tenant = sqlc.arg(tenant) AND id = sqlc.arg(id)
  AND version = CASE WHEN CAST(sqlc.arg(seen) AS BIGINT) < 0 THEN version ELSE CAST(sqlc.arg(seen) AS BIGINT) END;

-- name: DeleteRegistration :execrows
DELETE FROM registrations WHERE tenant = $1 AND id = $2;

-- name: Registration :one
SELECT * FROM registrations WHERE tenant = $1 AND id = $2;

-- name: RegistrationsByNumber :many
SELECT * FROM registrations
WHERE tenant = sqlc.arg(tenant) AND subject = sqlc.arg(subject) AND expires_at > sqlc.arg(now)
ORDER BY created_at, id;

-- name: RegistrationsByDevice :many
SELECT * FROM registrations
WHERE tenant = sqlc.arg(tenant) AND device_id = sqlc.arg(device_id)
  AND issuer = sqlc.arg(issuer) AND client_id = sqlc.arg(client_id)
  AND expires_at > sqlc.arg(now)
ORDER BY created_at, id;

-- name: RegistrationsEnding :many
SELECT * FROM registrations
WHERE expires_at <= sqlc.arg(until)
ORDER BY expires_at, id
LIMIT sqlc.arg(most);

-- name: CountRegistrations :one
SELECT COUNT(*) FROM registrations WHERE expires_at > $1;

-- name: RegistrationsAlive :many
SELECT * FROM registrations WHERE expires_at > $1 ORDER BY created_at, id;
