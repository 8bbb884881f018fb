-- name: InsertSubscription :execrows
INSERT INTO subscriptions (tenant, id, issuer, client_id, subject, device_id, registration_id, created_at, ends_at, ended_at, version, data)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9,
        CASE WHEN CAST(sqlc.arg(active) AS BIGINT) = 1 THEN 0 ELSE (SELECT c.micros FROM clock c) END, 0, sqlc.arg(data))
ON CONFLICT DO NOTHING;

-- name: UpdateSubscription :execrows
UPDATE subscriptions
SET device_id = sqlc.arg(device_id), registration_id = sqlc.arg(registration_id), ends_at = sqlc.arg(ends_at),
    ended_at = CASE WHEN CAST(sqlc.arg(active) AS BIGINT) = 1 THEN 0
                    WHEN ended_at > 0 THEN ended_at
                    ELSE (SELECT c.micros FROM clock c) END,
    data = sqlc.arg(data), version = version + 1
WHERE tenant = sqlc.arg(tenant) AND id = sqlc.arg(id)
  AND version = CASE WHEN CAST(sqlc.arg(seen) AS BIGINT) < 0 THEN version ELSE CAST(sqlc.arg(seen) AS BIGINT) END;

-- name: Subscription :one
SELECT * FROM subscriptions WHERE tenant = $1 AND id = $2;

-- name: SubscriptionsOfApplication :many
SELECT * FROM subscriptions
WHERE tenant = $1 AND issuer = $2 AND client_id = $3 AND ended_at = 0
ORDER BY created_at, id;

-- name: SubscriptionsOfOwner :many
SELECT * FROM subscriptions
WHERE tenant = $1 AND issuer = $2 AND client_id = $3 AND subject = $4 AND ended_at = 0
ORDER BY created_at, id;

-- name: SubscriptionsFor :many
SELECT * FROM subscriptions
WHERE tenant = sqlc.arg(tenant) AND device_id IN (sqlc.arg(device_id), '')
  AND client_id = sqlc.arg(client_id) AND issuer = sqlc.arg(issuer)
  AND subject IN (sqlc.arg(subject), '') AND ended_at = 0
ORDER BY created_at, id;

-- name: SubscriptionsByRegistration :many
SELECT * FROM subscriptions
WHERE registration_id = sqlc.arg(registration_id) AND registration_id <> '' AND ended_at = 0
ORDER BY created_at, id;

-- name: SubscriptionsEnding :many
SELECT * FROM subscriptions
WHERE ends_at > 0 AND ends_at <= sqlc.arg(until)
ORDER BY ends_at, id
LIMIT sqlc.arg(most);

-- name: DeleteSubscriptionsEndedBefore :many
DELETE FROM subscriptions
WHERE ended_at > 0 AND ended_at < sqlc.arg(until)
  AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.tenant = subscriptions.tenant AND o.subscription = subscriptions.id)
RETURNING tenant, id;

-- name: DeleteQueue :exec
DELETE FROM outbox_queues WHERE tenant = $1 AND subscription = $2;

-- name: NextEnd :one
SELECT CAST(COALESCE(MIN(e.at), 0) AS BIGINT) AS at FROM (
    SELECT MIN(r.expires_at) AS at FROM registrations r
    UNION ALL
    SELECT MIN(s.ends_at) AS at FROM subscriptions s WHERE s.ends_at > 0
) e;
