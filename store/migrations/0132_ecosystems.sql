-- +goose Up

-- The ecosystems, with their releases, of which vulnerabilities were imported: of
-- the others' packages it isn't known whether they have any.
CREATE TABLE osv_ecosystems (name TEXT NOT NULL PRIMARY KEY);
INSERT INTO osv_ecosystems SELECT DISTINCT ecosystem FROM osv_affected;

-- +goose Down
DROP TABLE osv_ecosystems;
