package store

import (
	"context"
	"database/sql"
	"errors"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
)

// learnEnvironment keeps what a message tells of an environment's namespace,
// and answers the environment with what was known already. It is for who holds
// the lock on the cluster's insights.
func learnEnvironment(ctx context.Context, tx *Tx, cluster fleet.AgentName, env insight.Environment) (insight.Environment, error) {
	if env.Namespace == "" {
		return findEnvironment(ctx, tx, cluster, env)
	}
	var was insight.Environment
	err := tx.QueryRow(ctx, `SELECT environment_id, project, environment FROM insight_environments WHERE cluster = ? AND namespace = ?`, cluster, env.Namespace).
		Scan(&was.ID, &was.Project, &was.Name)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return env, err
	}
	now := was
	if env.ID != 0 {
		now.ID = env.ID
	}
	if env.Project != "" {
		now.Project, now.Name = env.Project, env.Name
	}
	if err != nil || now != was {
		err = putEnvironment(ctx, tx, cluster, env.Namespace, now)
	}
	return env, err
}

func putEnvironment(ctx context.Context, tx *Tx, cluster fleet.AgentName, namespace string, env insight.Environment) error {
	if env.ID != 0 { // which is that of one namespace
		if _, err := tx.Exec(ctx, `UPDATE insight_environments SET environment_id = 0 WHERE cluster = ? AND environment_id = ?`, cluster, env.ID); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `
		INSERT INTO insight_environments (cluster, namespace, environment_id, project, environment) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (cluster, namespace) DO UPDATE SET environment_id = excluded.environment_id,
			project = excluded.project, environment = excluded.environment`,
		cluster, namespace, env.ID, env.Project, env.Name); err != nil {
		return err
	}
	// What was told before of the environment is the namespace's, too.
	found, err := findEnvironment(ctx, tx, cluster, insight.Environment{ID: env.ID, Project: env.Project, Name: env.Name})
	if err != nil || found.Namespace != namespace {
		return err
	}
	for _, of := range []spans{facts, problems} {
		for _, table := range []string{of.table, of.table + "_past"} {
			if _, err := tx.Exec(ctx, `
				UPDATE `+table+` SET namespace = ? WHERE cluster = ? AND namespace = '' AND environment_id <> 0
				AND (environment_id = ? OR project = ? AND environment = ? AND project <> '')`,
				namespace, cluster, env.ID, env.Project, env.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// findEnvironment adds the namespace of an environment, where it is known by
// its number or, being the only one, by its names.
func findEnvironment(ctx context.Context, tx *Tx, cluster fleet.AgentName, env insight.Environment) (insight.Environment, error) {
	if env.ID != 0 {
		found, err := texts(tx.Query(ctx, `SELECT namespace FROM insight_environments WHERE cluster = ? AND environment_id = ?`, cluster, env.ID))
		if err != nil {
			return env, err
		}
		if len(found) == 1 {
			env.Namespace = found[0]
			return env, nil
		}
	}
	if env.Project == "" || env.Name == "" {
		return env, nil
	}
	found, err := texts(tx.Query(ctx, `
		SELECT namespace FROM insight_environments WHERE cluster = ? AND project = ? AND environment = ? AND environment_id IN (0, ?)`,
		cluster, env.Project, env.Name, env.ID))
	if err != nil || len(found) != 1 {
		return env, err
	}
	env.Namespace = found[0]
	if env.ID != 0 {
		_, err = tx.Exec(ctx, `UPDATE insight_environments SET environment_id = ? WHERE cluster = ? AND namespace = ?`, env.ID, cluster, env.Namespace)
	}
	return env, err
}
