-- +goose Up

-- The way into a container that was asked for, and the one that was taken.
ALTER TABLE scans ADD COLUMN method TEXT NOT NULL DEFAULT '';
ALTER TABLE scans ADD COLUMN entry_method TEXT NOT NULL DEFAULT '';
ALTER TABLE scans ADD COLUMN entry_reason TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE scans DROP COLUMN entry_reason;
ALTER TABLE scans DROP COLUMN entry_method;
ALTER TABLE scans DROP COLUMN method;
