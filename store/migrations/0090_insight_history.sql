-- +goose Up

-- Which environment a namespace is, as far as messages told it: Lagoon's number
-- is 0, and the names are empty, where they aren't known.
CREATE TABLE insight_environments (
    cluster        TEXT   NOT NULL,
    namespace      TEXT   NOT NULL,
    environment_id BIGINT NOT NULL,
    project        TEXT   NOT NULL,
    environment    TEXT   NOT NULL,
    PRIMARY KEY (cluster, namespace)
);
CREATE INDEX insight_environments_id ON insight_environments (cluster, environment_id);
CREATE INDEX insight_environments_name ON insight_environments (cluster, project, environment);
INSERT INTO insight_environments (cluster, namespace, environment_id, project, environment)
    SELECT cluster, namespace, 0, MAX(project), MAX(environment) FROM insight_inventory WHERE namespace <> '' GROUP BY cluster, namespace;

ALTER TABLE insight_facts RENAME TO insight_facts_old;
DROP INDEX insight_facts_project;
CREATE TABLE insight_facts (
    cluster        TEXT   NOT NULL,
    environment_id BIGINT NOT NULL, -- Lagoon's number; 0 of what was derived
    place          TEXT   NOT NULL, -- of the document that it was derived from; empty of what was told
    source         TEXT   NOT NULL,
    service        TEXT   NOT NULL,
    name           TEXT   NOT NULL,
    origin         TEXT   NOT NULL, -- the kind of that document
    namespace      TEXT   NOT NULL, -- empty where that isn't known
    project        TEXT   NOT NULL,
    environment    TEXT   NOT NULL,
    build          TEXT   NOT NULL, -- of that document
    value          TEXT   NOT NULL,
    description    TEXT   NOT NULL,
    type           TEXT   NOT NULL,
    category       TEXT   NOT NULL,
    since          BIGINT NOT NULL, -- when it became what it is
    received       BIGINT NOT NULL, -- when it was last said
    CONSTRAINT insight_facts_key PRIMARY KEY (cluster, environment_id, place, source, service, name, origin)
);
INSERT INTO insight_facts
    SELECT f.cluster, environment_id, '', source, service, name, '',
        COALESCE((SELECT MIN(e.namespace) FROM insight_environments e WHERE e.cluster = f.cluster AND e.project = f.project
            AND e.environment = f.environment AND e.project <> '' HAVING COUNT(*) = 1), ''),
        project, environment, '', value, description, type, category, received, received
    FROM insight_facts_old f;
DROP TABLE insight_facts_old;
CREATE INDEX insight_facts_project ON insight_facts (project, environment);
CREATE INDEX insight_facts_namespace ON insight_facts (cluster, namespace);

-- What held until a time.
CREATE TABLE insight_facts_past (
    cluster        TEXT   NOT NULL,
    environment_id BIGINT NOT NULL,
    place          TEXT   NOT NULL,
    source         TEXT   NOT NULL,
    service        TEXT   NOT NULL,
    name           TEXT   NOT NULL,
    origin         TEXT   NOT NULL,
    namespace      TEXT   NOT NULL,
    project        TEXT   NOT NULL,
    environment    TEXT   NOT NULL,
    build          TEXT   NOT NULL,
    value          TEXT   NOT NULL,
    description    TEXT   NOT NULL,
    type           TEXT   NOT NULL,
    category       TEXT   NOT NULL,
    since          BIGINT NOT NULL,
    received       BIGINT NOT NULL,
    until          BIGINT NOT NULL,
    CONSTRAINT insight_facts_past_key PRIMARY KEY (cluster, environment_id, place, source, service, name, origin, since)
);
CREATE INDEX insight_facts_past_until ON insight_facts_past (until);
CREATE INDEX insight_facts_past_namespace ON insight_facts_past (cluster, namespace);

ALTER TABLE insight_problems ADD COLUMN namespace TEXT NOT NULL DEFAULT '';
ALTER TABLE insight_problems ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
UPDATE insight_problems SET since = received, namespace =
    COALESCE((SELECT MIN(e.namespace) FROM insight_environments e WHERE e.cluster = insight_problems.cluster AND e.project = insight_problems.project
        AND e.environment = insight_problems.environment AND e.project <> '' HAVING COUNT(*) = 1), '');
CREATE INDEX insight_problems_namespace ON insight_problems (cluster, namespace);

CREATE TABLE insight_problems_past (
    cluster            TEXT             NOT NULL,
    environment_id     BIGINT           NOT NULL,
    source             TEXT             NOT NULL,
    service            TEXT             NOT NULL,
    identifier         TEXT             NOT NULL,
    associated_package TEXT             NOT NULL,
    version            TEXT             NOT NULL,
    namespace          TEXT             NOT NULL,
    project            TEXT             NOT NULL,
    environment        TEXT             NOT NULL,
    fixed_version      TEXT             NOT NULL,
    severity           TEXT             NOT NULL,
    severity_score     DOUBLE PRECISION NOT NULL,
    description        TEXT             NOT NULL,
    links              TEXT             NOT NULL,
    data               TEXT             NOT NULL,
    since              BIGINT           NOT NULL,
    received           BIGINT           NOT NULL,
    until              BIGINT           NOT NULL,
    CONSTRAINT insight_problems_past_key PRIMARY KEY (cluster, environment_id, source, service, identifier, associated_package, version, since)
);
CREATE INDEX insight_problems_past_until ON insight_problems_past (until);
CREATE INDEX insight_problems_past_namespace ON insight_problems_past (cluster, namespace);
CREATE INDEX insight_problems_past_identifier ON insight_problems_past (identifier);

-- +goose Down
DROP TABLE insight_problems_past;
DROP INDEX insight_problems_namespace;
ALTER TABLE insight_problems DROP COLUMN since;
ALTER TABLE insight_problems DROP COLUMN namespace;
DROP TABLE insight_facts_past;
ALTER TABLE insight_facts RENAME TO insight_facts_new;
DROP INDEX insight_facts_project;
CREATE TABLE insight_facts (
    cluster        TEXT   NOT NULL,
    environment_id BIGINT NOT NULL,
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
INSERT INTO insight_facts
    SELECT cluster, environment_id, source, service, name, project, environment, value, description, type, category, received
    FROM insight_facts_new WHERE place = '';
DROP TABLE insight_facts_new;
CREATE INDEX insight_facts_project ON insight_facts (project, environment);
DROP TABLE insight_environments;
