-- +goose Up

-- Whether the agent is to hand in an SBOM of the container, too.
ALTER TABLE scans ADD COLUMN sbom BIGINT NOT NULL DEFAULT 0; -- 0 or 1

-- +goose Down
ALTER TABLE scans DROP COLUMN sbom;
