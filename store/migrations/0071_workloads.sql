-- +goose Up

-- What runs, as each agent reported last.
CREATE TABLE workloads (
    cluster    TEXT   NOT NULL,
    namespace  TEXT   NOT NULL,
    kind       TEXT   NOT NULL, -- Deployment, …; Pod
    name       TEXT   NOT NULL,
    container  TEXT   NOT NULL,
    digest     TEXT   NOT NULL, -- of the image
    image      TEXT   NOT NULL, -- as its author names it
    service    TEXT   NOT NULL, -- Lagoon's, by its label
    pods       BIGINT NOT NULL,
    first_seen BIGINT NOT NULL,
    PRIMARY KEY (cluster, namespace, kind, name, container, digest)
);
CREATE INDEX workloads_digest ON workloads (digest);
CREATE INDEX workloads_service ON workloads (cluster, namespace, service);
CREATE INDEX workloads_seen ON workloads (first_seen);

-- When each agent reported, and what waits in its spool.
CREATE TABLE workload_reports (
    cluster       TEXT   NOT NULL PRIMARY KEY,
    reported      BIGINT NOT NULL,
    workloads     BIGINT NOT NULL,
    backlog_items BIGINT NOT NULL,
    backlog_bytes BIGINT NOT NULL,
    backlog_since BIGINT NOT NULL -- when its oldest item came; 0 where there is none
);

-- What people said of vulnerabilities (VEX).
CREATE TABLE vex_statements (
    id            TEXT   NOT NULL PRIMARY KEY,
    document      TEXT   NOT NULL, -- digest of where it stands
    vulnerability TEXT   NOT NULL,
    subject       TEXT   NOT NULL, -- what it is about; see insight/vex
    component     TEXT   NOT NULL, -- a purl; empty for all of the subject's
    status        TEXT   NOT NULL,
    justification TEXT   NOT NULL,
    detail        TEXT   NOT NULL,
    author        TEXT   NOT NULL,
    made          BIGINT NOT NULL
);
CREATE INDEX vex_statements_document ON vex_statements (document);
CREATE INDEX vex_statements_vulnerability ON vex_statements (vulnerability);

-- +goose Down
DROP TABLE vex_statements;
DROP TABLE workload_reports;
DROP TABLE workloads;
