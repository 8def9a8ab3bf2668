-- +goose Up

-- Versions of profiles that were uploaded: see scan.Catalogue.
CREATE TABLE profiles (
    name       TEXT   NOT NULL,
    version    TEXT   NOT NULL,
    digest     TEXT   NOT NULL, -- of the archive, a document
    title      TEXT   NOT NULL,
    summary    TEXT   NOT NULL,
    controls   TEXT   NOT NULL, -- JSON list
    created    BIGINT NOT NULL,
    created_by TEXT   NOT NULL,
    PRIMARY KEY (name, version)
);
CREATE INDEX profiles_by_age ON profiles (name, created, version);
CREATE INDEX profiles_by_digest ON profiles (digest);

CREATE TABLE thresholds (
    name       TEXT   NOT NULL PRIMARY KEY,
    text       TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    created    BIGINT NOT NULL,
    created_by TEXT   NOT NULL
);

-- The threshold's text as it was when the scan was asked for, a document.
ALTER TABLE scans ADD COLUMN threshold_digest TEXT NOT NULL DEFAULT '';
CREATE INDEX scans_by_threshold ON scans (threshold_digest);

-- +goose Down
DROP INDEX scans_by_threshold;
ALTER TABLE scans DROP COLUMN threshold_digest;
DROP TABLE thresholds;
DROP TABLE profiles;
