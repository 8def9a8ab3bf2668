-- +goose Up

-- Whom a subject's failure was told last, so that they hear of its end: names of
-- sinks with commas between them; empty once it has passed.
ALTER TABLE policy_subjects ADD COLUMN sinks TEXT NOT NULL DEFAULT '';
CREATE INDEX policy_subjects_place ON policy_subjects (source, policy, agent, namespace);

-- Where the subject is, as far as this hub has found it out itself, for callers
-- who are limited to a part of the fleet.
ALTER TABLE alert ADD COLUMN agent TEXT NOT NULL DEFAULT '';
ALTER TABLE alert ADD COLUMN namespace TEXT NOT NULL DEFAULT '';
UPDATE alert SET agent = s.agent, namespace = s.namespace FROM scans s WHERE s.id = alert.run;
UPDATE alert SET agent = p.agent, namespace = p.namespace
FROM alert_key k, policy_runs r, policy_subjects p
WHERE k.id = alert.key_id AND r.id = alert.run AND r.source = 'policies'
    AND p.source = r.source AND p.policy = k.policy AND p.owner = k.owner AND p.repo = k.repo;

-- +goose Down
ALTER TABLE alert DROP COLUMN namespace;
ALTER TABLE alert DROP COLUMN agent;
DROP INDEX policy_subjects_place;
ALTER TABLE policy_subjects DROP COLUMN sinks;
