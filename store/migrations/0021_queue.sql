-- +goose Up

-- Scans that were asked for together: see scan.Batch.
CREATE TABLE batches (
    id           TEXT   NOT NULL PRIMARY KEY, -- a UUID of version 7
    requested_by TEXT   NOT NULL,
    created      BIGINT NOT NULL
);

ALTER TABLE scans ADD COLUMN batch TEXT NOT NULL DEFAULT '';
ALTER TABLE scans ADD COLUMN selector TEXT NOT NULL DEFAULT ''; -- JSON; only of a selection
ALTER TABLE scans ADD COLUMN class BIGINT NOT NULL DEFAULT 1; -- 0 high, 1 normal, 2 low
ALTER TABLE scans ADD COLUMN turn BIGINT NOT NULL DEFAULT 0; -- within the class
ALTER TABLE scans ADD COLUMN not_before BIGINT NOT NULL DEFAULT 0;
DROP INDEX scans_by_work;
CREATE INDEX scans_by_turn ON scans (agent, status, class, turn, id);
CREATE INDEX scans_by_caller ON scans (agent, status, class, requested_by, turn);
CREATE INDEX scans_by_batch ON scans (batch, id);

-- +goose Down
DROP INDEX scans_by_batch;
DROP INDEX scans_by_caller;
DROP INDEX scans_by_turn;
CREATE INDEX scans_by_work ON scans (agent, status, id);
ALTER TABLE scans DROP COLUMN not_before;
ALTER TABLE scans DROP COLUMN turn;
ALTER TABLE scans DROP COLUMN class;
ALTER TABLE scans DROP COLUMN selector;
ALTER TABLE scans DROP COLUMN batch;
DROP TABLE batches;
