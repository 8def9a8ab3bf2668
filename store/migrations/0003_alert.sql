-- +goose Up
-- The outbox. alert_key is one stream of alerts that are delivered in order,
-- and the unit of leasing: whoever holds its lease may deliver its oldest
-- pending alert.
CREATE TABLE alert_key (
    id          TEXT   NOT NULL PRIMARY KEY,
    sink        TEXT   NOT NULL,
    owner       TEXT   NOT NULL,
    repo        TEXT   NOT NULL,
    policy      TEXT   NOT NULL,
    last_seq    BIGINT NOT NULL,
    next_at     BIGINT NOT NULL, -- when the oldest pending alert is due; 0: nothing is pending
    holder      TEXT   NOT NULL DEFAULT '',
    lease       TEXT   NOT NULL DEFAULT '',
    lease_until BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX alert_key_due ON alert_key (sink, next_at) WHERE next_at > 0;
CREATE INDEX alert_key_lease ON alert_key (lease) WHERE lease <> '';

CREATE TABLE alert (
    id         TEXT   NOT NULL PRIMARY KEY,
    key_id     TEXT   NOT NULL REFERENCES alert_key (id),
    seq        BIGINT NOT NULL,
    run        TEXT   NOT NULL,
    pass       BIGINT NOT NULL, -- 0 or 1
    details    TEXT   NOT NULL,
    checked_at BIGINT NOT NULL,
    callback   TEXT,            -- JSON; of callbacks only
    secret     TEXT,            -- JSON; a callback's credential, until it's delivered or given up
    state      TEXT   NOT NULL DEFAULT 'pending',
    attempts   BIGINT NOT NULL DEFAULT 0,
    last_error TEXT   NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    done_at    BIGINT NOT NULL DEFAULT 0,
    UNIQUE (key_id, seq)
);
CREATE INDEX alert_pending ON alert (key_id, seq) WHERE state = 'pending';
CREATE INDEX alert_listed ON alert (created_at, id);
CREATE INDEX alert_run ON alert (run);

-- A sink that refuses everything (credentials, no such method) is paused as
-- a whole.
CREATE TABLE alert_sink (
    name         TEXT   NOT NULL PRIMARY KEY,
    paused_until BIGINT NOT NULL,
    reason       TEXT   NOT NULL
);

-- +goose Down
DROP TABLE alert_sink;
DROP TABLE alert;
DROP TABLE alert_key;
