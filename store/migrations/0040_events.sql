-- +goose Up

-- Events that were taken: see package event.
CREATE TABLE events (
    id          TEXT   NOT NULL PRIMARY KEY, -- a UUID of version 7
    source      TEXT   NOT NULL,
    name        TEXT   NOT NULL, -- the attribute id
    type        TEXT   NOT NULL,
    subject     TEXT   NOT NULL,
    at          BIGINT NOT NULL, -- the attribute time
    agent       TEXT   NOT NULL,
    namespace   TEXT   NOT NULL,
    data        TEXT   NOT NULL, -- JSON, what of the event's data is understood
    body        TEXT   NOT NULL, -- the whole event, JSON
    topic       TEXT   NOT NULL, -- what it is about; '' can't be superseded
    received    BIGINT NOT NULL,
    received_by TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    reason      TEXT   NOT NULL DEFAULT '',
    decisions   TEXT   NOT NULL DEFAULT '', -- JSON list
    since       BIGINT NOT NULL,
    due         BIGINT NOT NULL,
    UNIQUE (source, name)
);
CREATE INDEX events_due ON events (due, id) WHERE state = 'pending';
CREATE INDEX events_topic ON events (topic, id) WHERE state = 'pending';
CREATE INDEX events_by_state ON events (state, id);

-- The latest scan of a content: the agent, namespace, image, profile and
-- threshold in one hash.
CREATE TABLE event_scans (
    content TEXT   NOT NULL PRIMARY KEY,
    scan    TEXT   NOT NULL,
    at      BIGINT NOT NULL
);
CREATE INDEX event_scans_by_age ON event_scans (at);

-- The routes of agents' own.
CREATE TABLE event_routes (
    agent TEXT NOT NULL,
    name  TEXT NOT NULL,
    route TEXT NOT NULL, -- JSON
    PRIMARY KEY (agent, name)
);

-- +goose Down
DROP TABLE event_routes;
DROP TABLE event_scans;
DROP TABLE events;
