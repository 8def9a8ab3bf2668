-- +goose Up

-- The subjects of an agent that a selection doesn't find any more, and what chose
-- the scans of a batch.
CREATE INDEX policy_subjects_agent ON policy_subjects (agent, checked);
CREATE INDEX scans_selections ON scans (batch, agent) WHERE selector <> '';

-- +goose Down
DROP INDEX scans_selections;
DROP INDEX policy_subjects_agent;
