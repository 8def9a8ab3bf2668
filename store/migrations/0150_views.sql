-- +goose Up

-- What didn't run when its agent looked last is a policy's subject for a while.
ALTER TABLE workloads ADD COLUMN absent BIGINT NOT NULL DEFAULT 0; -- since when; 0: it runs
ALTER TABLE workloads ADD COLUMN ends BIGINT NOT NULL DEFAULT 0; -- when it is forgotten; 0: not
CREATE INDEX workloads_ends ON workloads (cluster, ends) WHERE ends > 0;

-- The namespaces that an agent has told the contents of, with its digests of those.
CREATE TABLE inventory_namespaces (
    cluster   TEXT   NOT NULL,
    namespace TEXT   NOT NULL,
    digest    TEXT   NOT NULL,
    workloads BIGINT NOT NULL, -- that run
    size      BIGINT NOT NULL, -- of all contents
    PRIMARY KEY (cluster, namespace)
);

-- The containers of pods that haven't ended.
CREATE TABLE inventory_containers (
    cluster   TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL, -- POD/CONTAINER
    PRIMARY KEY (cluster, namespace, name)
);

-- The report that those two are of, and when they were whole last: see
-- Store.PutView. A hub that doesn't know them reports without changing these.
ALTER TABLE workload_reports ADD COLUMN digests BIGINT NOT NULL DEFAULT 0;
ALTER TABLE workload_reports ADD COLUMN viewed BIGINT NOT NULL DEFAULT 0;

-- Whether the subject is a pod's container that was scanned; since when its
-- agent's views are without it, and since when selections don't find it; 0: they do.
ALTER TABLE policy_subjects ADD COLUMN pod BIGINT NOT NULL DEFAULT 0;
ALTER TABLE policy_subjects ADD COLUMN absent BIGINT NOT NULL DEFAULT 0;
ALTER TABLE policy_subjects ADD COLUMN unchosen BIGINT NOT NULL DEFAULT 0;
UPDATE policy_subjects SET pod = 1 WHERE source = 'policies'
    AND EXISTS (SELECT 1 FROM scans s WHERE s.id = policy_subjects.run AND s.selector = '' AND s.pod <> '' AND s.uri = '');
CREATE INDEX policy_subjects_pods ON policy_subjects (agent, namespace, repo) WHERE pod = 1;
CREATE INDEX policy_subjects_absent ON policy_subjects (agent, absent) WHERE absent > 0;

-- +goose Down
DROP INDEX policy_subjects_absent;
DROP INDEX policy_subjects_pods;
ALTER TABLE policy_subjects DROP COLUMN unchosen;
ALTER TABLE policy_subjects DROP COLUMN absent;
ALTER TABLE policy_subjects DROP COLUMN pod;
ALTER TABLE workload_reports DROP COLUMN viewed;
ALTER TABLE workload_reports DROP COLUMN digests;
DROP TABLE inventory_containers;
DROP TABLE inventory_namespaces;
DROP INDEX workloads_ends;
ALTER TABLE workloads DROP COLUMN ends;
ALTER TABLE workloads DROP COLUMN absent;
