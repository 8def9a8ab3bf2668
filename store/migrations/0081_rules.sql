-- +goose Up

-- Whether a rule of the hub's owner asked for the scan, and what a ScanPolicy
-- wants its outcome told to (one a line).
ALTER TABLE scans ADD COLUMN standing BIGINT NOT NULL DEFAULT 0; -- 0 or 1
ALTER TABLE scans ADD COLUMN actions TEXT NOT NULL DEFAULT '';

-- What is asked of events: how much is kept, and how much of whom waits.
ALTER TABLE events ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0; -- of the body
UPDATE events SET bytes = LENGTH(body);
CREATE INDEX events_by_size ON events (id, bytes);
CREATE INDEX events_by_caller ON events (received_by) WHERE state = 'pending';

-- The credential that a schedule was made with (JSON), and why it is paused.
ALTER TABLE schedules ADD COLUMN maker TEXT NOT NULL DEFAULT '';
ALTER TABLE schedules ADD COLUMN paused TEXT NOT NULL DEFAULT '';

-- On what a session rests: the credential's key, as pki.Credential has it.
ALTER TABLE tokens ADD COLUMN source TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE tokens DROP COLUMN source;
ALTER TABLE schedules DROP COLUMN paused;
ALTER TABLE schedules DROP COLUMN maker;
DROP INDEX events_by_caller;
DROP INDEX events_by_size;
ALTER TABLE events DROP COLUMN bytes;
ALTER TABLE scans DROP COLUMN actions;
ALTER TABLE scans DROP COLUMN standing;
