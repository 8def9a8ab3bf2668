-- +goose Up

-- Evaluations of policies: see policy.Run.
CREATE TABLE policy_runs (
    id       TEXT   NOT NULL PRIMARY KEY, -- a UUID of version 7: by age
    source   TEXT   NOT NULL,
    policy   TEXT   NOT NULL, -- '': all of the source
    cause    TEXT   NOT NULL,
    whole    BIGINT NOT NULL, -- 0 or 1
    config   TEXT   NOT NULL, -- tells one configuration of the policy from another
    holder   TEXT   NOT NULL,
    state    TEXT   NOT NULL,
    reason   TEXT   NOT NULL,
    began    BIGINT NOT NULL,
    ended    BIGINT NOT NULL, -- 0: not yet
    expected BIGINT NOT NULL,
    passed   BIGINT NOT NULL,
    failed   BIGINT NOT NULL,
    unknown  BIGINT NOT NULL
);
CREATE INDEX policy_runs_of ON policy_runs (source, policy, id);
CREATE INDEX policy_runs_running ON policy_runs (source) WHERE state = 'running';
CREATE INDEX policy_runs_ended ON policy_runs (ended) WHERE ended > 0;

-- How each subject stands by each policy.
CREATE TABLE policy_subjects (
    source    TEXT   NOT NULL,
    policy    TEXT   NOT NULL,
    owner     TEXT   NOT NULL,
    repo      TEXT   NOT NULL,
    agent     TEXT   NOT NULL, -- '': it is in no cluster
    namespace TEXT   NOT NULL,
    verdict   TEXT   NOT NULL,
    details   TEXT   NOT NULL,
    since     BIGINT NOT NULL, -- when the verdict became this one
    checked   BIGINT NOT NULL,
    run       TEXT   NOT NULL,
    PRIMARY KEY (source, policy, owner, repo)
);
CREATE INDEX policy_subjects_verdict ON policy_subjects (source, policy, verdict);
CREATE INDEX policy_subjects_checked ON policy_subjects (source, checked);

-- Places of which something is known anew; both empty: of all.
CREATE TABLE policy_marks (
    agent     TEXT   NOT NULL,
    namespace TEXT   NOT NULL,
    stamp     BIGINT NOT NULL, -- tells this mark from later ones
    PRIMARY KEY (agent, namespace)
);

-- What namespaces say of policies for themselves.
CREATE TABLE policy_layers (
    agent     TEXT   NOT NULL,
    namespace TEXT   NOT NULL,
    text      TEXT   NOT NULL, -- YAML
    put_by    TEXT   NOT NULL,
    put_at    BIGINT NOT NULL,
    PRIMARY KEY (agent, namespace)
);

-- Pods' labels, JSON.
ALTER TABLE workloads ADD COLUMN labels TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE workloads DROP COLUMN labels;
DROP TABLE policy_layers;
DROP TABLE policy_marks;
DROP TABLE policy_subjects;
DROP TABLE policy_runs;
