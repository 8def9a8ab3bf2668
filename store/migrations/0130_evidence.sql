-- +goose Up

-- Whether the place's agent made it by a scan of its own; else somebody of the
-- place handed it in.
ALTER TABLE insight_inventory ADD COLUMN scanned BIGINT NOT NULL DEFAULT 0;
UPDATE insight_inventory SET scanned = 1 WHERE item LIKE 'sbom/%';

-- What an SBOM said of the components in another one.
DELETE FROM vex_statements WHERE subject LIKE 'serial:%' AND document IN (SELECT digest FROM insight_documents);

-- +goose Down
ALTER TABLE insight_inventory DROP COLUMN scanned;
