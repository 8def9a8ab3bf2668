-- +goose Up

-- Schedules of scans: see scan.Schedule. An owner is an agent, '' is the hub.
CREATE TABLE schedules (
    owner      TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    cron       TEXT   NOT NULL,
    time_zone  TEXT   NOT NULL,
    request    TEXT   NOT NULL, -- JSON: what is asked for
    jitter     BIGINT NOT NULL, -- microseconds
    missed     TEXT   NOT NULL,
    suspended  BIGINT NOT NULL, -- 0 or 1
    created    BIGINT NOT NULL,
    created_by TEXT   NOT NULL,
    next_at    BIGINT NOT NULL, -- 0: never
    PRIMARY KEY (owner, name)
);
CREATE INDEX schedules_due ON schedules (next_at) WHERE next_at > 0;

CREATE TABLE schedule_runs (
    owner    TEXT   NOT NULL,
    schedule TEXT   NOT NULL,
    at       BIGINT NOT NULL, -- when it should have been
    state    TEXT   NOT NULL,
    scan     TEXT   NOT NULL DEFAULT '',
    batch    TEXT   NOT NULL DEFAULT '',
    missed   BIGINT NOT NULL,
    reason   TEXT   NOT NULL,
    begun    BIGINT NOT NULL,
    due      BIGINT NOT NULL, -- when it is begun, again too
    PRIMARY KEY (owner, schedule, at),
    FOREIGN KEY (owner, schedule) REFERENCES schedules (owner, name) ON DELETE CASCADE
);
CREATE INDEX schedule_runs_due ON schedule_runs (due) WHERE state = 'due';

-- +goose Down
DROP TABLE schedule_runs;
DROP TABLE schedules;
