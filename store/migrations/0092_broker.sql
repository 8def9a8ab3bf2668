-- +goose Up

-- Why Lagoon's broker takes nothing from the agent; empty while it does.
ALTER TABLE workload_reports ADD COLUMN backlog_broker TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE workload_reports DROP COLUMN backlog_broker;
