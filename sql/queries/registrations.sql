-- name: InsertRegistration :execrows
INSERT INTO registrations (tenant, id, issuer, client_id, subject, device_id, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING;

-- name: UpdateRegistration :execrows
UPDATE registrations
SET issuer = $1, client_id = $2, subject = $3, device_id = $4, expires_at = $5
WHERE tenant = $6 AND id = $7;

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
