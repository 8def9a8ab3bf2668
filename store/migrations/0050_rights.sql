-- +goose Up

-- What a token's holder may do, pki.Rights as JSON; empty for a token of the
-- time when it had a role alone. The role stays the highest of them.
ALTER TABLE tokens ADD COLUMN rights TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE tokens DROP COLUMN rights;
