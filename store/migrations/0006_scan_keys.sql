-- +goose Up
-- The idempotency keys of requests for scans, for a day.
CREATE TABLE scan_keys (
    caller  TEXT   NOT NULL,
    name    TEXT   NOT NULL,
    digest  TEXT   NOT NULL, -- of the request
    scan    TEXT   NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (caller, name)
);
CREATE INDEX scan_keys_created ON scan_keys (created);

-- +goose Down
DROP TABLE scan_keys;
