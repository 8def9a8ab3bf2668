-- +goose Up
-- How each hub sees the checks of an organisation's repositories: see
-- policy/github.Standings.
CREATE TABLE github_standing (
    connection   TEXT   NOT NULL,
    organisation TEXT   NOT NULL,
    holder       TEXT   NOT NULL, -- the hub
    completed    BIGINT NOT NULL, -- when it last checked all repositories; 0: never
    limits       TEXT   NOT NULL, -- JSON
    saved        BIGINT NOT NULL,
    PRIMARY KEY (connection, organisation, holder)
);

-- +goose Down
DROP TABLE github_standing;
