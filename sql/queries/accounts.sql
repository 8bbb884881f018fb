-- name: SetSIPAccount :exec
INSERT INTO sip_accounts (tenant, trunk, number, data)
VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant, trunk, number) DO UPDATE SET data = EXCLUDED.data;

-- name: DeleteSIPAccount :execrows
DELETE FROM sip_accounts WHERE tenant = $1 AND trunk = $2 AND number = $3;

-- name: SIPAccountsOfNumber :many
SELECT * FROM sip_accounts WHERE tenant = $1 AND number = $2 ORDER BY trunk;

-- name: SIPAccounts :many
SELECT * FROM sip_accounts ORDER BY tenant, trunk, number;
