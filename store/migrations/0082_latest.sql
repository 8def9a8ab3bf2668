-- +goose Up

-- The last completed scan of each series: see scan.HistoryStore.
CREATE TABLE latest_scans (
    agent     TEXT NOT NULL,
    namespace TEXT NOT NULL,
    pod       TEXT NOT NULL,
    container TEXT NOT NULL,
    uri       TEXT NOT NULL,
    profile   TEXT NOT NULL,
    threshold TEXT NOT NULL,
    scan      TEXT NOT NULL,
    outcome   TEXT NOT NULL,
    PRIMARY KEY (agent, namespace, pod, container, uri, profile, threshold)
);
CREATE INDEX latest_scans_by_scan ON latest_scans (scan);
CREATE INDEX latest_scans_by_agent ON latest_scans (agent, scan);
INSERT INTO latest_scans (agent, namespace, pod, container, uri, profile, threshold, scan, outcome)
    SELECT agent, namespace, pod, container, uri, profile, threshold, id, outcome FROM scans WHERE id IN (
        SELECT MAX(id) FROM scans WHERE selector = '' AND status = 'completed'
        GROUP BY agent, namespace, pod, container, uri, profile, threshold);

-- +goose Down
DROP TABLE latest_scans;
