-- +goose Up
ALTER TABLE alert ADD COLUMN size BIGINT NOT NULL DEFAULT 0;  -- bytes of its details
ALTER TABLE alert ADD COLUMN since BIGINT NOT NULL DEFAULT 0; -- when it became pending: made, or replayed
UPDATE alert SET size = LENGTH(details), since = created_at;
-- What is pending is counted by this index alone.
DROP INDEX alert_pending;
CREATE INDEX alert_pending ON alert (key_id, seq, since, size) WHERE state = 'pending';
CREATE INDEX alert_dead ON alert (key_id) WHERE state = 'dead';

-- What the sink was told last: 1 passed, 0 failed, -1 nothing.
ALTER TABLE alert_key ADD COLUMN told BIGINT NOT NULL DEFAULT -1;
ALTER TABLE alert_key ADD COLUMN told_at BIGINT NOT NULL DEFAULT 0;

-- The person who paused the sink until somebody lets it go on; else empty.
ALTER TABLE alert_sink ADD COLUMN held_by TEXT NOT NULL DEFAULT '';

-- What made outcomes, such as a scan or one turn of a policy: how many should
-- have come of it, and how many did.
CREATE TABLE outcome_run (
    id       TEXT   NOT NULL PRIMARY KEY,
    source   TEXT   NOT NULL,
    expected BIGINT NOT NULL,
    emitted  BIGINT NOT NULL,
    note     TEXT   NOT NULL,
    began_at BIGINT NOT NULL,
    ended_at BIGINT NOT NULL -- 0: it hasn't
);
CREATE INDEX outcome_run_listed ON outcome_run (began_at, id);

CREATE TABLE alert_silence (
    id         TEXT   NOT NULL PRIMARY KEY,
    sink       TEXT   NOT NULL, -- patterns; empty: all
    owner      TEXT   NOT NULL,
    repo       TEXT   NOT NULL,
    policy     TEXT   NOT NULL,
    until_at   BIGINT NOT NULL,
    comment    TEXT   NOT NULL,
    created_by TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE alert_signing_key (
    id         TEXT   NOT NULL PRIMARY KEY,
    public     TEXT   NOT NULL, -- base64 of ed25519
    sealed     TEXT   NOT NULL, -- base64 of the private key, sealed by the CA's
    created_at BIGINT NOT NULL,
    ends_at    BIGINT NOT NULL  -- 0: it doesn't yet
);

-- +goose Down
DROP TABLE alert_signing_key;
DROP TABLE alert_silence;
DROP TABLE outcome_run;
ALTER TABLE alert_sink DROP COLUMN held_by;
ALTER TABLE alert_key DROP COLUMN told_at;
ALTER TABLE alert_key DROP COLUMN told;
DROP INDEX alert_dead;
DROP INDEX alert_pending;
CREATE INDEX alert_pending ON alert (key_id, seq) WHERE state = 'pending';
ALTER TABLE alert DROP COLUMN since;
ALTER TABLE alert DROP COLUMN size;
