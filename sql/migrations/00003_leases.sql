-- Who holds the leases of the outbox, so that those of a dead process are free
-- long before they run out.

-- +goose Up

CREATE TABLE processes (
    id          TEXT   NOT NULL PRIMARY KEY,
    alive_until BIGINT NOT NULL
);

ALTER TABLE outbox ADD COLUMN holder TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE outbox DROP COLUMN holder;
DROP TABLE processes;
