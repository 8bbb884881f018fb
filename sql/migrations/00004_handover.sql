-- Adding to a queue takes two short statements: the queue knows the version of its
-- subscription, and the events of a session are counted in the session itself.

-- +goose Up

ALTER TABLE outbox_queues ADD COLUMN version BIGINT NOT NULL DEFAULT 0;

UPDATE outbox_queues SET version = COALESCE((
    SELECT s.version FROM subscriptions s
    WHERE s.tenant = outbox_queues.tenant AND s.id = outbox_queues.subscription), 0);

INSERT INTO outbox_queues (tenant, subscription, last_seq, version)
SELECT s.tenant, s.id, 0, s.version FROM subscriptions s
WHERE NOT EXISTS (SELECT 1 FROM outbox_queues q WHERE q.tenant = s.tenant AND q.subscription = s.id);

DROP TABLE event_sequences;

-- +goose Down
CREATE TABLE event_sequences (
    tenant          TEXT   NOT NULL,
    session_id      TEXT   NOT NULL,
    subscription_id TEXT   NOT NULL,
    value           BIGINT NOT NULL,
    PRIMARY KEY (tenant, session_id, subscription_id)
);
CREATE INDEX event_sequences_by_subscription ON event_sequences (tenant, subscription_id);

ALTER TABLE outbox_queues DROP COLUMN version;
