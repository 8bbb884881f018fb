-- Accounts of numbers at the operator's registrars, beside those of the
-- configuration. The column data holds the credentials, sealed.

-- +goose Up
CREATE TABLE sip_accounts (
    tenant TEXT   NOT NULL,
    trunk  TEXT   NOT NULL,
    number TEXT   NOT NULL,
    data   BYTEA  NOT NULL,
    PRIMARY KEY (tenant, trunk, number)
);
CREATE INDEX sip_accounts_by_number ON sip_accounts (tenant, number);

-- +goose Down
DROP TABLE sip_accounts;
