-- +goose Up

-- Of an SBOM that an agent made itself, what it says, without its number and the
-- time at which it was made; else empty.
ALTER TABLE insight_documents ADD COLUMN content TEXT NOT NULL DEFAULT '';
CREATE INDEX insight_documents_content ON insight_documents (content) WHERE content <> '';

-- +goose Down
DROP INDEX insight_documents_content;
ALTER TABLE insight_documents DROP COLUMN content;
