-- +goose Up

-- What namespaces say of policies by an annotation, as their agents report it.
CREATE TABLE policy_annotations (
    agent     TEXT   NOT NULL,
    namespace TEXT   NOT NULL,
    text      TEXT   NOT NULL, -- YAML
    since     BIGINT NOT NULL,
    PRIMARY KEY (agent, namespace)
);

-- +goose Down
DROP TABLE policy_annotations;
