-- +goose Up

-- The replicas of the hub. One whose time has passed is gone.
CREATE TABLE replicas (
    id      TEXT   NOT NULL PRIMARY KEY,
    address TEXT   NOT NULL, -- host:port where other replicas reach it
    version TEXT   NOT NULL,
    started BIGINT NOT NULL,
    expires BIGINT NOT NULL
);

-- Which replica holds a link of which agent process.
CREATE TABLE replica_links (
    replica   TEXT   NOT NULL REFERENCES replicas (id) ON DELETE CASCADE,
    agent     TEXT   NOT NULL,
    instance  TEXT   NOT NULL,
    session   TEXT   NOT NULL,
    remote    TEXT   NOT NULL,
    connected BIGINT NOT NULL,
    PRIMARY KEY (replica, agent, instance)
);
CREATE INDEX replica_links_agent ON replica_links (agent);

-- +goose Down
DROP TABLE replica_links;
DROP TABLE replicas;
