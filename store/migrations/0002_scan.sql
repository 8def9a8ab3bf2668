-- +goose Up

CREATE TABLE scans (
    id              TEXT   NOT NULL PRIMARY KEY, -- a UUID of version 7: by age
    status          TEXT   NOT NULL,
    outcome         TEXT   NOT NULL DEFAULT '',
    reason          TEXT   NOT NULL DEFAULT '',

    -- The request.
    agent           TEXT   NOT NULL,
    kind            TEXT   NOT NULL, -- of the target
    namespace       TEXT   NOT NULL,
    pod             TEXT   NOT NULL,
    container       TEXT   NOT NULL,
    uri             TEXT   NOT NULL,
    profile         TEXT   NOT NULL,
    profile_version TEXT   NOT NULL,
    profile_digest  TEXT   NOT NULL,
    threshold       TEXT   NOT NULL,
    inputs          TEXT   NOT NULL, -- JSON object
    timeout         BIGINT NOT NULL, -- microseconds
    requested_by    TEXT   NOT NULL,
    callback        TEXT   NOT NULL, -- JSON, without secrets; '' if there is none
    callback_secret TEXT   NOT NULL, -- JSON; erased when the scan is final

    created         BIGINT NOT NULL,
    started         BIGINT NOT NULL DEFAULT 0,
    finished        BIGINT NOT NULL DEFAULT 0,
    expires         BIGINT NOT NULL, -- of the waiting or, while running, of the run
    attempt         BIGINT NOT NULL DEFAULT 0,
    lease_instance  TEXT   NOT NULL DEFAULT '',
    lease_expires   BIGINT NOT NULL DEFAULT 0,
    done            BIGINT NOT NULL DEFAULT 0,
    total           BIGINT NOT NULL,
    control         TEXT   NOT NULL DEFAULT '',

    passed          BIGINT NOT NULL DEFAULT 0,
    failed          BIGINT NOT NULL DEFAULT 0,
    skipped         BIGINT NOT NULL DEFAULT 0,
    errors          BIGINT NOT NULL DEFAULT 0,
    findings        TEXT   NOT NULL DEFAULT 'null', -- JSON list
    result_digest   TEXT   NOT NULL DEFAULT '',
    result_size     BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX scans_by_work ON scans (agent, status, id);
CREATE INDEX scans_by_status ON scans (status, id);
CREATE INDEX scans_by_agent ON scans (agent, id);
CREATE INDEX scans_by_result ON scans (result_digest);
CREATE INDEX scans_by_profile ON scans (profile_digest);
