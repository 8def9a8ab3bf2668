-- +goose Up

-- One row for each item that an agent delivered: a repeat changes nothing.
CREATE TABLE insight_receipts (
    cluster  TEXT   NOT NULL,
    item     TEXT   NOT NULL,
    received BIGINT NOT NULL,
    PRIMARY KEY (cluster, item)
);

CREATE TABLE insight_facts (
    cluster        TEXT   NOT NULL,
    environment_id BIGINT NOT NULL, -- Lagoon's number
    source         TEXT   NOT NULL,
    service        TEXT   NOT NULL,
    name           TEXT   NOT NULL,
    project        TEXT   NOT NULL,
    environment    TEXT   NOT NULL,
    value          TEXT   NOT NULL,
    description    TEXT   NOT NULL,
    type           TEXT   NOT NULL,
    category       TEXT   NOT NULL,
    received       BIGINT NOT NULL,
    PRIMARY KEY (cluster, environment_id, source, service, name)
);
CREATE INDEX insight_facts_project ON insight_facts (project, environment);

CREATE TABLE insight_problems (
    cluster            TEXT             NOT NULL,
    environment_id     BIGINT           NOT NULL,
    source             TEXT             NOT NULL,
    service            TEXT             NOT NULL,
    identifier         TEXT             NOT NULL,
    associated_package TEXT             NOT NULL,
    version            TEXT             NOT NULL,
    project            TEXT             NOT NULL,
    environment        TEXT             NOT NULL,
    fixed_version      TEXT             NOT NULL,
    severity           TEXT             NOT NULL,
    severity_score     DOUBLE PRECISION NOT NULL,
    description        TEXT             NOT NULL,
    links              TEXT             NOT NULL,
    data               TEXT             NOT NULL,
    received           BIGINT           NOT NULL,
    PRIMARY KEY (cluster, environment_id, source, service, identifier, associated_package, version)
);
CREATE INDEX insight_problems_project ON insight_problems (project, environment);
CREATE INDEX insight_problems_identifier ON insight_problems (identifier);

-- What was read from one blob, once, however many services have it.
CREATE TABLE insight_documents (
    id         BIGINT NOT NULL PRIMARY KEY, -- the largest there is and one
    digest     TEXT   NOT NULL UNIQUE,
    kind       TEXT   NOT NULL, -- sbom or image
    size       BIGINT NOT NULL,
    components BIGINT NOT NULL,
    summary    TEXT   NOT NULL  -- JSON
);

-- One row for each document that a service ever had.
CREATE TABLE insight_inventory (
    cluster     TEXT   NOT NULL,
    item        TEXT   NOT NULL,
    document_id BIGINT NOT NULL REFERENCES insight_documents (id),
    kind        TEXT   NOT NULL,
    place       TEXT   NOT NULL, -- the namespace; project/environment where that isn't known
    namespace   TEXT   NOT NULL,
    project     TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    service     TEXT   NOT NULL,
    build       TEXT   NOT NULL,
    is_current  BIGINT NOT NULL,
    received    BIGINT NOT NULL,
    PRIMARY KEY (cluster, item)
);
CREATE INDEX insight_inventory_place ON insight_inventory (cluster, place, service, kind);
CREATE INDEX insight_inventory_document ON insight_inventory (document_id);
CREATE INDEX insight_inventory_received ON insight_inventory (received);

-- Components, each once across all documents.
CREATE TABLE insight_components (
    id         BIGINT NOT NULL PRIMARY KEY, -- the largest there is and one
    key        TEXT   NOT NULL UNIQUE, -- the purl; type, group, name and version where there is none
    type       TEXT   NOT NULL,
    grp        TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    name_lower TEXT   NOT NULL,
    version    TEXT   NOT NULL
);
CREATE INDEX insight_components_name ON insight_components (name_lower, version);

CREATE TABLE insight_document_components (
    component_id BIGINT NOT NULL REFERENCES insight_components (id),
    document_id  BIGINT NOT NULL REFERENCES insight_documents (id),
    PRIMARY KEY (component_id, document_id)
);
CREATE INDEX insight_document_components_document ON insight_document_components (document_id);

-- Messages that couldn't be taken; their bytes are a blob.
CREATE TABLE insight_quarantine (
    cluster  TEXT   NOT NULL,
    item     TEXT   NOT NULL,
    reason   TEXT   NOT NULL,
    digest   TEXT   NOT NULL,
    size     BIGINT NOT NULL,
    received BIGINT NOT NULL,
    PRIMARY KEY (cluster, item)
);

-- +goose Down
DROP TABLE insight_quarantine;
DROP TABLE insight_document_components;
DROP TABLE insight_components;
DROP TABLE insight_inventory;
DROP TABLE insight_documents;
DROP TABLE insight_problems;
DROP TABLE insight_facts;
DROP TABLE insight_receipts;
