-- +goose Up

-- What GitHub answered, so that it is asked only whether that still holds: see
-- policy/github.Responses.
CREATE TABLE github_responses (
    connection TEXT   NOT NULL,
    scope      TEXT   NOT NULL,
    saved      BIGINT NOT NULL,
    size       BIGINT NOT NULL, -- of data
    data       BLOB   NOT NULL,
    PRIMARY KEY (connection, scope)
);
CREATE INDEX github_responses_saved ON github_responses (saved);

-- What is to be checked: see policy/github.Work.
CREATE TABLE github_work (
    connection  TEXT   NOT NULL,
    owner       TEXT   NOT NULL, -- lower case
    repo        TEXT   NOT NULL, -- lower case; '': all of the owner
    cause       TEXT   NOT NULL,
    due         BIGINT NOT NULL,
    stamp       TEXT   NOT NULL, -- changes with each mark
    lease       TEXT   NOT NULL,
    lease_until BIGINT NOT NULL,
    PRIMARY KEY (connection, owner, repo)
);
CREATE INDEX github_work_due ON github_work (connection, due);

-- +goose Down
DROP TABLE github_work;
DROP TABLE github_responses;
