-- +goose Up

-- The audit log: see audit.Entry. The body is what counts; the columns before
-- it are to find it by.
CREATE TABLE audit_records (
    chain   TEXT   NOT NULL,
    seq     BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    kind    TEXT   NOT NULL,
    actor   TEXT   NOT NULL,
    holder  TEXT   NOT NULL,
    agent   TEXT   NOT NULL,
    service TEXT   NOT NULL,
    action  TEXT   NOT NULL,
    status  BIGINT NOT NULL,
    body    TEXT   NOT NULL, -- JSON
    hash    TEXT   NOT NULL,
    PRIMARY KEY (chain, seq)
);
CREATE INDEX audit_records_at ON audit_records (at);

CREATE TABLE audit_anchors (
    chain     TEXT   NOT NULL,
    seq       BIGINT NOT NULL,
    kind      TEXT   NOT NULL,
    hash      TEXT   NOT NULL,
    at        BIGINT NOT NULL,
    signature TEXT   NOT NULL, -- base64
    PRIMARY KEY (chain, seq, kind)
);

-- Recordings of terminals: see audit.Recording.
CREATE TABLE recordings (
    id         TEXT   NOT NULL PRIMARY KEY, -- UUID v7: sorts by time
    began      BIGINT NOT NULL,
    ended      BIGINT NOT NULL,
    actor      TEXT   NOT NULL,
    credential TEXT   NOT NULL,
    holder     TEXT   NOT NULL,
    agent      TEXT   NOT NULL,
    service    TEXT   NOT NULL,
    namespace  TEXT   NOT NULL,
    pod        TEXT   NOT NULL,
    container  TEXT   NOT NULL,
    command    TEXT   NOT NULL, -- JSON list
    width      BIGINT NOT NULL,
    height     BIGINT NOT NULL,
    size       BIGINT NOT NULL,
    digest     TEXT   NOT NULL,
    cause      TEXT   NOT NULL
);
CREATE INDEX recordings_digest ON recordings (digest);

-- +goose Down
DROP TABLE recordings;
DROP TABLE audit_anchors;
DROP TABLE audit_records;
