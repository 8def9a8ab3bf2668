-- +goose Up

-- The percentage of a completed scan's controls that passed, as SAF has it.
ALTER TABLE scans ADD COLUMN compliance BIGINT NOT NULL DEFAULT 0;

-- What is looked for to be forgotten, and the scans of one target.
CREATE INDEX scans_by_end ON scans (finished);
CREATE INDEX scans_by_target ON scans (agent, namespace, pod, container, id);
CREATE INDEX alert_by_end ON alert (done_at) WHERE done_at > 0;
CREATE INDEX insight_receipts_received ON insight_receipts (received);

-- What one replica of the hub at a time does: see Store.TakeDuty.
CREATE TABLE duties (
    name   TEXT   NOT NULL PRIMARY KEY,
    holder TEXT   NOT NULL,
    until  BIGINT NOT NULL
);

-- +goose Down
DROP TABLE duties;
DROP INDEX insight_receipts_received;
DROP INDEX alert_by_end;
DROP INDEX scans_by_target;
DROP INDEX scans_by_end;
ALTER TABLE scans DROP COLUMN compliance;
