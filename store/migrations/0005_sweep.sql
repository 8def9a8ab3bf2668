-- +goose Up
-- The sweeper asks for each document whether a row names it.
CREATE INDEX insight_quarantine_digest ON insight_quarantine (digest);

-- +goose Down
DROP INDEX insight_quarantine_digest;
