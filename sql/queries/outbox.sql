-- name: NextSequence :one
INSERT INTO event_sequences (tenant, session_id, subscription_id, value)
SELECT s.tenant, sqlc.arg(session_id), s.id, 1 FROM subscriptions s WHERE s.id = sqlc.arg(subscription_id)
ON CONFLICT (tenant, session_id, subscription_id) DO UPDATE SET value = event_sequences.value + 1
RETURNING value;

-- name: LockQueueForEnqueue :one
INSERT INTO outbox_queues (tenant, subscription, last_seq)
SELECT s.tenant, s.id, 1 FROM subscriptions s WHERE s.id = sqlc.arg(subscription)
ON CONFLICT (tenant, subscription) DO UPDATE SET last_seq = outbox_queues.last_seq + 1
RETURNING tenant, last_seq;

-- name: LockQueue :execrows
UPDATE outbox_queues SET last_seq = last_seq WHERE tenant = $1 AND subscription = $2;

-- name: QueueTenants :many
SELECT tenant FROM outbox_queues WHERE subscription = $1;

-- name: InsertOutbox :exec
INSERT INTO outbox (tenant, subscription, seq, recorded_at, next_attempt_at, lease_until, attempts, data)
VALUES (sqlc.arg(tenant), sqlc.arg(subscription), sqlc.arg(seq), (SELECT c.micros FROM clock c),
        CASE WHEN EXISTS (SELECT 1 FROM outbox o WHERE o.tenant = sqlc.arg(tenant) AND o.subscription = sqlc.arg(subscription))
             THEN 0 ELSE (SELECT c.micros FROM clock c) END,
        0, 0, sqlc.arg(data));

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

-- name: PromoteOutbox :execrows
UPDATE outbox SET next_attempt_at = (SELECT c.micros FROM clock c)
WHERE outbox.tenant = sqlc.arg(tenant) AND outbox.subscription = sqlc.arg(subscription) AND outbox.next_attempt_at = 0
  AND outbox.seq = (SELECT MIN(h.seq) FROM outbox h WHERE h.tenant = sqlc.arg(tenant) AND h.subscription = sqlc.arg(subscription));

-- name: RetryOutbox :execrows
UPDATE outbox SET next_attempt_at = (SELECT c.micros FROM clock c) + sqlc.arg(delay), lease_until = 0
WHERE tenant = sqlc.arg(tenant) AND subscription = sqlc.arg(subscription) AND seq = sqlc.arg(seq)
  AND attempts = sqlc.arg(attempts) AND next_attempt_at > 0;

-- name: NextDue :one
SELECT CAST(COALESCE(MIN(o.next_attempt_at), 0) AS BIGINT) AS due, (SELECT c.micros FROM clock c) AS now
FROM outbox o WHERE o.next_attempt_at > 0;
