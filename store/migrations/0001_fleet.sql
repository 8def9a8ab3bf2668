-- +goose Up

-- One row for each agent process that ever registered.
CREATE TABLE agents (
    agent        TEXT   NOT NULL,
    instance     TEXT   NOT NULL,
    version      TEXT   NOT NULL,
    hostname     TEXT   NOT NULL,
    registration TEXT   NOT NULL, -- fleet.Registration as JSON, without holding
    first_seen   BIGINT NOT NULL,
    last_seen    BIGINT NOT NULL,
    PRIMARY KEY (agent, instance)
);

-- Join tokens and API tokens; only the hash of the secret is kept.
CREATE TABLE tokens (
    id      TEXT   NOT NULL PRIMARY KEY,
    kind    TEXT   NOT NULL,
    name    TEXT   NOT NULL,
    agent   TEXT   NOT NULL,
    role    TEXT   NOT NULL,
    hash    TEXT   NOT NULL, -- hex
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL, -- 0: never
    used_at BIGINT NOT NULL, -- 0: not yet
    used_by TEXT   NOT NULL
);
