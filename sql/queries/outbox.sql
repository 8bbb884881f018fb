-- name: InsertQueue :exec
INSERT INTO outbox_queues (tenant, subscription, last_seq, version) VALUES ($1, $2, 0, 0);

-- name: ExtendQueue :one
UPDATE outbox_queues SET last_seq = last_seq + sqlc.arg(events), version = version + sqlc.arg(changes)
WHERE subscription = sqlc.arg(subscription)
RETURNING tenant, last_seq, version;

-- name: LockQueue :one
UPDATE outbox_queues SET last_seq = last_seq WHERE tenant = $1 AND subscription = $2
RETURNING last_seq;

-- name: QueueTenants :many
SELECT tenant FROM outbox_queues WHERE subscription = $1;

-- name: InsertOutbox :one
INSERT INTO outbox (tenant, subscription, seq, recorded_at, next_attempt_at, lease_until, attempts, holder, data)
VALUES (sqlc.arg(tenant), sqlc.arg(subscription), sqlc.arg(seq), (SELECT c.micros FROM clock c),
        CASE WHEN EXISTS (SELECT 1 FROM outbox o WHERE o.tenant = sqlc.arg(tenant) AND o.subscription = sqlc.arg(subscription))
             THEN 0 ELSE (SELECT c.micros FROM clock c) + CAST(sqlc.arg(lease) AS BIGINT) END,
        CASE WHEN CAST(sqlc.arg(lease) AS BIGINT) = 0 THEN 0 ELSE (SELECT c.micros FROM clock c) + CAST(sqlc.arg(lease) AS BIGINT) END,
        sqlc.arg(attempts), sqlc.arg(holder), sqlc.arg(data))
RETURNING recorded_at, next_attempt_at;

-- name: ClaimOutbox :many
UPDATE outbox
SET next_attempt_at = (SELECT c.micros FROM clock c) + sqlc.arg(lease),
    lease_until = (SELECT c.micros FROM clock c) + sqlc.arg(lease),
    holder = sqlc.arg(holder),
    attempts = attempts + 1
WHERE (outbox.tenant, outbox.subscription, outbox.seq) IN (
        SELECT h.tenant, h.subscription, h.seq FROM outbox h
        WHERE h.next_attempt_at > 0 AND h.next_attempt_at <= (SELECT c.micros FROM clock c)
        ORDER BY h.next_attempt_at
        LIMIT sqlc.arg(most))
  AND outbox.next_attempt_at > 0 AND outbox.next_attempt_at <= (SELECT c.micros FROM clock c)
RETURNING outbox.tenant, outbox.subscription, outbox.seq, outbox.recorded_at, outbox.attempts, outbox.data;

-- name: DeleteOutbox :execrows
DELETE FROM outbox WHERE tenant = $1 AND subscription = $2 AND seq = $3;

-- name: DeleteOutboxOf :execrows
DELETE FROM outbox WHERE tenant = $1 AND subscription = $2;

-- name: PromoteOutbox :many
UPDATE outbox
SET next_attempt_at = (SELECT c.micros FROM clock c) + CAST(sqlc.arg(lease) AS BIGINT),
    lease_until = CASE WHEN CAST(sqlc.arg(lease) AS BIGINT) = 0 THEN 0 ELSE (SELECT c.micros FROM clock c) + CAST(sqlc.arg(lease) AS BIGINT) END,
    attempts = sqlc.arg(attempts),
    holder = sqlc.arg(holder)
WHERE outbox.tenant = sqlc.arg(tenant) AND outbox.subscription = sqlc.arg(subscription) AND outbox.next_attempt_at = 0
  AND outbox.seq = (SELECT MIN(h.seq) FROM outbox h WHERE h.tenant = sqlc.arg(tenant) AND h.subscription = sqlc.arg(subscription))
RETURNING outbox.tenant, outbox.subscription, outbox.seq, outbox.recorded_at, outbox.attempts, outbox.data;

-- name: RetryOutbox :execrows
UPDATE outbox SET next_attempt_at = (SELECT c.micros FROM clock c) + sqlc.arg(delay), lease_until = 0
WHERE tenant = sqlc.arg(tenant) AND subscription = sqlc.arg(subscription) AND seq = sqlc.arg(seq)
  AND attempts = sqlc.arg(attempts) AND next_attempt_at > 0;

-- name: NextDue :one
SELECT CAST(COALESCE(MIN(o.next_attempt_at), 0) AS BIGINT) AS due, (SELECT c.micros FROM clock c) AS now
FROM outbox o WHERE o.next_attempt_at > 0;
