-- +goose Up

-- By how many more series passed and failed at a day's end (UTC, days since
-- 1970) than at that of the day before: see scan.HistoryStore. The sums over
-- all days are what latest_scans counts.
CREATE TABLE posture_days (
    day       BIGINT NOT NULL,
    agent     TEXT   NOT NULL,
    namespace TEXT   NOT NULL,
    passed    BIGINT NOT NULL,
    failed    BIGINT NOT NULL,
    PRIMARY KEY (day, agent, namespace)
);
CREATE INDEX latest_scans_by_outcome ON latest_scans (agent, namespace, outcome);
INSERT INTO posture_days (day, agent, namespace, passed, failed)
    SELECT day, agent, namespace,
        SUM(CASE WHEN outcome = 'passed' THEN 1 ELSE 0 END - CASE WHEN before = 'passed' THEN 1 ELSE 0 END),
        SUM(CASE WHEN outcome = 'passed' THEN 0 ELSE 1 END - CASE WHEN before IN ('', 'passed') THEN 0 ELSE 1 END)
    FROM (
        SELECT finished / 86400000000 AS day, agent, namespace, outcome,
            COALESCE(LAG(outcome) OVER (PARTITION BY agent, namespace, pod, container, uri, profile, threshold ORDER BY id), '') AS before
        FROM scans WHERE selector = '' AND status = 'completed') AS changes
    WHERE outcome <> before
    GROUP BY day, agent, namespace;

-- +goose Down
DROP INDEX latest_scans_by_outcome;
DROP TABLE posture_days;
