-- The Notification Relay: channels, the events in them, and tickets to read them.

-- +goose Up

CREATE TABLE relay_channels (
    tenant        TEXT   NOT NULL,
    id            TEXT   NOT NULL,
    issuer        TEXT   NOT NULL,
    client_id     TEXT   NOT NULL,
    subject       TEXT   NOT NULL,
    -- Hash of the secret in the sink's URL.
    sink_key      TEXT   NOT NULL,
    last_seq      BIGINT NOT NULL,
    -- Up to here events have been written to a stream.
    delivered_seq BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    used_at       BIGINT NOT NULL,
    -- 0 while the channel is open.
    closed_at     BIGINT NOT NULL,
    data          BYTEA  NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX relay_channels_by_id ON relay_channels (id);
CREATE INDEX relay_channels_by_sink ON relay_channels (sink_key);
CREATE INDEX relay_channels_by_owner ON relay_channels (tenant, issuer, client_id, subject) WHERE closed_at = 0;
CREATE INDEX relay_channels_by_use ON relay_channels (used_at) WHERE closed_at = 0;
CREATE INDEX relay_channels_by_close ON relay_channels (closed_at) WHERE closed_at > 0;

CREATE TABLE relay_events (
    tenant      TEXT   NOT NULL,
    channel     TEXT   NOT NULL,
    seq         BIGINT NOT NULL,
    -- Hash of the CloudEvent's source and id, and of the id alone.
    event_key   TEXT   NOT NULL,
    id_key      TEXT   NOT NULL,
    received_at BIGINT NOT NULL,
    data        BYTEA  NOT NULL,
    PRIMARY KEY (tenant, channel, seq)
);
CREATE UNIQUE INDEX relay_events_once ON relay_events (tenant, channel, event_key);
CREATE INDEX relay_events_by_id ON relay_events (tenant, channel, id_key);
CREATE INDEX relay_events_by_age ON relay_events (received_at);

CREATE TABLE relay_tickets (
    tenant     TEXT   NOT NULL,
    ticket_key TEXT   NOT NULL,
    channel    TEXT   NOT NULL,
    expires_at BIGINT NOT NULL,
    authorized BIGINT NOT NULL,
    PRIMARY KEY (tenant, ticket_key)
);
CREATE INDEX relay_tickets_by_key ON relay_tickets (ticket_key);
CREATE INDEX relay_tickets_by_end ON relay_tickets (expires_at);

-- +goose Down
DROP TABLE relay_tickets;
DROP TABLE relay_events;
DROP TABLE relay_channels;
