-- +goose Up
-- The deny list of certificates and service tokens; see pki.Revocation.
CREATE TABLE revocations (
    kind   TEXT   NOT NULL,
    id     TEXT   NOT NULL,
    reason TEXT   NOT NULL,
    actor  TEXT   NOT NULL, -- who did it
    at     BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX revocations_at ON revocations (at);

-- +goose Down
DROP TABLE revocations;
