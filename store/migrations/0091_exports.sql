-- +goose Up

-- SBOMs on their way to Dependency-Track: the latest of each of its projects.
CREATE TABLE insight_exports (
    project     TEXT   NOT NULL, -- as Dependency-Track knows it
    version     TEXT   NOT NULL,
    cluster     TEXT   NOT NULL,
    namespace   TEXT   NOT NULL,
    project_of  TEXT   NOT NULL, -- Lagoon's
    environment TEXT   NOT NULL,
    service     TEXT   NOT NULL,
    build       TEXT   NOT NULL,
    digest      TEXT   NOT NULL,
    state       TEXT   NOT NULL, -- waiting, sent or refused
    queued      BIGINT NOT NULL,
    attempts    BIGINT NOT NULL,
    next_at     BIGINT NOT NULL, -- of what waits
    reason      TEXT   NOT NULL, -- of the last failure
    ended       BIGINT NOT NULL, -- when it was sent or refused
    PRIMARY KEY (project, version)
);
CREATE INDEX insight_exports_next ON insight_exports (state, next_at);

-- +goose Down
DROP TABLE insight_exports;
