-- Times are microseconds since 1970, 0 stands for never or not yet. The column
-- data holds the whole of a thing, sealed; the other columns are what it is
-- looked up by. version grows with every change, so that a transaction notices
-- when another one changes what it has read. The tenant leads every unique index.

-- +goose Up

-- The database's clock, by which leases and delays are measured.
CREATE VIEW clock AS
SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) AS micros;

CREATE TABLE settings (
    name TEXT   NOT NULL PRIMARY KEY,
    data BYTEA  NOT NULL
);

CREATE TABLE counters (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE owner_locks (
    tenant    TEXT   NOT NULL,
    issuer    TEXT   NOT NULL,
    client_id TEXT   NOT NULL,
    subject   TEXT   NOT NULL,
    taken     BIGINT NOT NULL,
    PRIMARY KEY (tenant, issuer, client_id, subject)
);

CREATE TABLE registrations (
    tenant     TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    issuer     TEXT   NOT NULL,
    client_id  TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    device_id  TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX registrations_by_number ON registrations (tenant, subject, device_id);
CREATE INDEX registrations_by_device ON registrations (tenant, device_id);
CREATE INDEX registrations_by_end ON registrations (expires_at);

CREATE TABLE calls (
    tenant      TEXT   NOT NULL,
    id          TEXT   NOT NULL,
    sip_call_id TEXT   NOT NULL,
    local_tag   TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    data        BYTEA  NOT NULL,
    version     BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX calls_by_id ON calls (id);
CREATE INDEX calls_by_dialog ON calls (sip_call_id, local_tag) WHERE sip_call_id <> '';

CREATE TABLE media_sessions (
    tenant            TEXT   NOT NULL,
    id                TEXT   NOT NULL,
    issuer            TEXT   NOT NULL,
    client_id         TEXT   NOT NULL,
    subject           TEXT   NOT NULL,
    call_id           TEXT   NOT NULL,
    registration_id   TEXT   NOT NULL,
    client_correlator TEXT   NOT NULL,
    version           BIGINT NOT NULL,
    created_at        BIGINT NOT NULL,
    -- 0 while the session lives.
    ended_at          BIGINT NOT NULL,
    data              BYTEA  NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX media_sessions_by_call ON media_sessions (call_id);
CREATE INDEX media_sessions_by_registration ON media_sessions (registration_id) WHERE ended_at = 0;
CREATE INDEX media_sessions_by_end ON media_sessions (ended_at) WHERE ended_at > 0;

CREATE TABLE subscriptions (
    tenant          TEXT   NOT NULL,
    id              TEXT   NOT NULL,
    issuer          TEXT   NOT NULL,
    client_id       TEXT   NOT NULL,
    subject         TEXT   NOT NULL,
    device_id       TEXT   NOT NULL,
    registration_id TEXT   NOT NULL,
    created_at      BIGINT NOT NULL,
    -- When it will end by itself; 0 when it will not, or has ended.
    ends_at         BIGINT NOT NULL,
    -- 0 while it is active.
    ended_at        BIGINT NOT NULL,
    data            BYTEA  NOT NULL,
    version         BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX subscriptions_by_id ON subscriptions (id);
CREATE INDEX subscriptions_by_owner ON subscriptions (tenant, issuer, client_id, subject) WHERE ended_at = 0;
CREATE INDEX subscriptions_by_device ON subscriptions (tenant, device_id, client_id, issuer, subject) WHERE ended_at = 0;
CREATE INDEX subscriptions_by_registration ON subscriptions (registration_id) WHERE ended_at = 0 AND registration_id <> '';
CREATE INDEX subscriptions_by_end ON subscriptions (ends_at) WHERE ends_at > 0;
CREATE INDEX subscriptions_by_ended ON subscriptions (ended_at) WHERE ended_at > 0;

-- Counts the events of one session to one subscription.
CREATE TABLE event_sequences (
    tenant          TEXT   NOT NULL,
    session_id      TEXT   NOT NULL,
    subscription_id TEXT   NOT NULL,
    value           BIGINT NOT NULL,
    PRIMARY KEY (tenant, session_id, subscription_id)
);
CREATE INDEX event_sequences_by_subscription ON event_sequences (tenant, subscription_id);

-- One row per subscription that ever had an event. Whoever adds to or takes
-- from its queue updates this row first: that orders the events of concurrent
-- transactions and keeps exactly one of them at the head.
CREATE TABLE outbox_queues (
    tenant       TEXT   NOT NULL,
    subscription TEXT   NOT NULL,
    last_seq     BIGINT NOT NULL,
    PRIMARY KEY (tenant, subscription)
);
CREATE INDEX outbox_queues_by_subscription ON outbox_queues (subscription);

CREATE TABLE outbox (
    tenant          TEXT   NOT NULL,
    subscription    TEXT   NOT NULL,
    seq             BIGINT NOT NULL,
    recorded_at     BIGINT NOT NULL,
    -- Set only in the head row of a subscription, 0 in those behind it. Both
    -- are moved into the future by a lease; what an index finds due is thus
    -- neither leased nor waiting for another attempt.
    next_attempt_at BIGINT NOT NULL,
    lease_until     BIGINT NOT NULL,
    attempts        BIGINT NOT NULL,
    data            BYTEA  NOT NULL,
    PRIMARY KEY (tenant, subscription, seq)
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX outbox_due ON outbox (next_attempt_at) WHERE next_attempt_at > 0;

-- +goose Down
DROP TABLE outbox;
DROP TABLE outbox_queues;
DROP TABLE event_sequences;
DROP TABLE subscriptions;
DROP TABLE media_sessions;
DROP TABLE calls;
DROP TABLE registrations;
DROP TABLE owner_locks;
DROP TABLE counters;
DROP TABLE settings;
DROP VIEW clock;
