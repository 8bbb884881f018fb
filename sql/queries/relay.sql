-- name: CountRelayChannels :one
SELECT COUNT(*) FROM relay_channels
WHERE tenant = $1 AND issuer = $2 AND client_id = $3 AND subject = $4 AND closed_at = 0;

-- name: InsertRelayChannel :execrows
INSERT INTO relay_channels (tenant, id, issuer, client_id, subject, sink_key, last_seq, delivered_seq, created_at, used_at, closed_at, data)
VALUES ($1, $2, $3, $4, $5, $6, 0, 0, $7, (SELECT c.micros FROM clock c), 0, $8)
ON CONFLICT DO NOTHING;

-- name: RelayChannel :one
SELECT * FROM relay_channels WHERE id = $1;

-- name: RelayChannelBySink :one
SELECT * FROM relay_channels WHERE sink_key = $1;

-- name: SetRelayChannelData :execrows
UPDATE relay_channels SET data = $1 WHERE tenant = $2 AND id = $3 AND closed_at = 0;

-- name: TouchRelayChannel :execrows
UPDATE relay_channels
SET used_at = (SELECT c.micros FROM clock c),
    delivered_seq = CASE WHEN delivered_seq < CAST(sqlc.arg(delivered) AS BIGINT) THEN CAST(sqlc.arg(delivered) AS BIGINT) ELSE delivered_seq END
WHERE id = sqlc.arg(id) AND closed_at = 0;

-- name: CloseRelayChannel :one
UPDATE relay_channels SET closed_at = (SELECT c.micros FROM clock c)
WHERE id = sqlc.arg(id) AND closed_at = 0
RETURNING tenant;

-- name: CloseIdleRelayChannels :many
UPDATE relay_channels SET closed_at = (SELECT c.micros FROM clock c)
WHERE closed_at = 0 AND used_at < (SELECT c.micros FROM clock c) - CAST(sqlc.arg(idle) AS BIGINT)
RETURNING tenant, id;

-- name: ForgetRelayChannels :exec
DELETE FROM relay_channels
WHERE closed_at > 0 AND closed_at < (SELECT c.micros FROM clock c) - CAST(sqlc.arg(remember) AS BIGINT);

-- name: NextRelaySeq :one
UPDATE relay_channels SET last_seq = last_seq + 1
WHERE id = sqlc.arg(id) AND closed_at = 0
RETURNING tenant, last_seq, delivered_seq;

-- name: HasRelayEvent :one
SELECT COUNT(*) FROM relay_events WHERE tenant = $1 AND channel = $2 AND event_key = $3;

-- name: FirstRelaySeq :one
SELECT CAST(COALESCE(MIN(seq), 0) AS BIGINT) AS seq FROM relay_events WHERE tenant = $1 AND channel = $2;

-- name: InsertRelayEvent :exec
INSERT INTO relay_events (tenant, channel, seq, event_key, id_key, received_at, data)
VALUES ($1, $2, $3, $4, $5, (SELECT c.micros FROM clock c), $6);

-- name: DeleteRelayEventsUpTo :execrows
DELETE FROM relay_events WHERE tenant = sqlc.arg(tenant) AND channel = sqlc.arg(channel) AND seq <= sqlc.arg(seq);

-- name: DeleteRelayEventsOf :exec
DELETE FROM relay_events WHERE tenant = $1 AND channel = $2;

-- name: DeleteOldRelayEvents :exec
DELETE FROM relay_events WHERE received_at < (SELECT c.micros FROM clock c) - CAST(sqlc.arg(age) AS BIGINT);

-- name: RelayEvents :many
SELECT e.* FROM relay_events e JOIN relay_channels c ON c.tenant = e.tenant AND c.id = e.channel
WHERE c.id = sqlc.arg(channel) AND c.closed_at = 0 AND e.seq > sqlc.arg(after)
ORDER BY e.seq
LIMIT sqlc.arg(most);

-- name: RelayPosition :one
SELECT CAST(COALESCE(MIN(e.seq), 0) AS BIGINT) AS seq
FROM relay_events e JOIN relay_channels c ON c.tenant = e.tenant AND c.id = e.channel
WHERE c.id = sqlc.arg(channel) AND e.id_key = sqlc.arg(id_key);

-- name: InsertRelayTicket :execrows
INSERT INTO relay_tickets (tenant, ticket_key, channel, expires_at, authorized)
SELECT c.tenant, sqlc.arg(ticket_key), c.id, CAST(sqlc.arg(expires_at) AS BIGINT), CAST(sqlc.arg(authorized) AS BIGINT)
FROM relay_channels c WHERE c.id = sqlc.arg(channel) AND c.closed_at = 0;

-- name: TakeRelayTicket :one
DELETE FROM relay_tickets WHERE ticket_key = $1
RETURNING channel, expires_at, authorized;

-- name: DeleteOldRelayTickets :exec
DELETE FROM relay_tickets WHERE expires_at < (SELECT c.micros FROM clock c);
