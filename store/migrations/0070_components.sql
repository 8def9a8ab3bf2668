-- +goose Up

-- Which components a document has: their numbers, ascending, each as the
-- difference to the one before, as varints.
DROP TABLE insight_document_components;
CREATE TABLE insight_members (
    document_id BIGINT NOT NULL PRIMARY KEY REFERENCES insight_documents (id),
    components  BLOB   NOT NULL
);

-- Which documents have a component, written for many documents at a time (a
-- segment), so that a document costs no write for each of its components. The
-- documents of no segment yet are the latest few.
CREATE TABLE insight_segments (
    segment BIGINT NOT NULL PRIMARY KEY
);
CREATE TABLE insight_postings (
    segment      BIGINT NOT NULL REFERENCES insight_segments (segment),
    component_id BIGINT NOT NULL,
    documents    BLOB   NOT NULL, -- as members
    PRIMARY KEY (segment, component_id)
);

-- The package that a component is a version of, as OSV names it: ecosystem, a
-- slash, name; empty where OSV knows no such ecosystem.
ALTER TABLE insight_components ADD COLUMN package TEXT NOT NULL DEFAULT '';
CREATE INDEX insight_components_package ON insight_components (package);

-- The image that a document is about, by its digest; empty where it isn't said.
ALTER TABLE insight_documents ADD COLUMN image TEXT NOT NULL DEFAULT '';
CREATE INDEX insight_documents_image ON insight_documents (image);

CREATE INDEX insight_inventory_current ON insight_inventory (is_current, cluster, place, service);

-- What was read before is read again when its agents send it again.
DELETE FROM insight_inventory;
DELETE FROM insight_documents;
DELETE FROM insight_components;

-- Vulnerabilities, as the imported OSV databases have them.
CREATE TABLE osv_entries (
    id       TEXT             NOT NULL PRIMARY KEY,
    modified BIGINT           NOT NULL,
    cve      TEXT             NOT NULL, -- its first alias that is a CVE
    summary  TEXT             NOT NULL,
    severity TEXT             NOT NULL,
    score    DOUBLE PRECISION NOT NULL
);
CREATE INDEX osv_entries_cve ON osv_entries (cve);

-- Every other name of an entry, too.
CREATE TABLE osv_aliases (
    alias TEXT NOT NULL,
    entry TEXT NOT NULL REFERENCES osv_entries (id),
    PRIMARY KEY (alias, entry)
);
CREATE INDEX osv_aliases_entry ON osv_aliases (entry);

CREATE TABLE osv_affected (
    package   TEXT   NOT NULL,
    entry     TEXT   NOT NULL REFERENCES osv_entries (id),
    number    BIGINT NOT NULL, -- of an entry's several
    ecosystem TEXT   NOT NULL, -- with its release, such as Debian:12
    versions  TEXT   NOT NULL, -- JSON: ranges and versions
    PRIMARY KEY (package, entry, number)
);
CREATE INDEX osv_affected_entry ON osv_affected (entry);

-- Packages whose components are to be matched anew.
CREATE TABLE osv_pending (
    package TEXT   NOT NULL PRIMARY KEY,
    since   BIGINT NOT NULL
);

CREATE TABLE osv_findings (
    component_id BIGINT NOT NULL,
    entry        TEXT   NOT NULL,
    fixed        TEXT   NOT NULL,
    found        BIGINT NOT NULL,
    PRIMARY KEY (component_id, entry)
);
CREATE INDEX osv_findings_entry ON osv_findings (entry);
CREATE INDEX osv_findings_found ON osv_findings (found);

-- +goose Down
DROP TABLE osv_findings;
DROP TABLE osv_pending;
DROP TABLE osv_affected;
DROP TABLE osv_aliases;
DROP TABLE osv_entries;
DROP INDEX insight_inventory_current;
DROP INDEX insight_documents_image;
ALTER TABLE insight_documents DROP COLUMN image;
DROP INDEX insight_components_package;
ALTER TABLE insight_components DROP COLUMN package;
DROP TABLE insight_postings;
DROP TABLE insight_segments;
DROP TABLE insight_members;
CREATE TABLE insight_document_components (
    component_id BIGINT NOT NULL REFERENCES insight_components (id),
    document_id  BIGINT NOT NULL REFERENCES insight_documents (id),
    PRIMARY KEY (component_id, document_id)
);
CREATE INDEX insight_document_components_document ON insight_document_components (document_id);
