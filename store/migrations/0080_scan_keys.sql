-- +goose Up

-- Who forgets a scan forgets its key.
CREATE INDEX scan_keys_by_scan ON scan_keys (scan);

-- +goose Down
DROP INDEX scan_keys_by_scan;
