package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
)

// spans is a table of what holds now. Beside it NAME_past has what held until a
// time.
type spans struct{ table, columns string }

var (
	facts = spans{"insight_facts", `cluster, environment_id, place, source, service, name, origin, namespace, project, environment,
		build, value, description, type, category, since, received`}
	problems = spans{"insight_problems", `cluster, environment_id, source, service, identifier, associated_package, version,
		namespace, project, environment, fixed_version, severity, severity_score, description, links, data, since, received`}
)

// end moves what holds into the past.
func (s spans) end(ctx context.Context, tx *Tx, at int64, where string, args ...any) error {
	if _, err := tx.Exec(ctx, `
		INSERT INTO `+s.table+`_past (`+s.columns+`, until) SELECT `+s.columns+`, CAST(? AS BIGINT) FROM `+s.table+`
		WHERE `+where+` ON CONFLICT DO NOTHING`, append([]any{at}, args...)...); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM `+s.table+` WHERE `+where, args...)
	return err
}

// superseded reports whether what where chooses was said anew, or ended, after the
// item came.
func (s spans) superseded(ctx context.Context, tx *Tx, it insight.Item, where string, args ...any) (later bool, err error) {
	if it.Came.IsZero() {
		return false, nil
	}
	args = append(slices.Clone(args), micros(it.Came))
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM `+s.table+` WHERE `+where+` AND received > ?)
		OR EXISTS (SELECT 1 FROM `+s.table+`_past WHERE `+where+` AND until > ?)`, slices.Concat(args, args)...).Scan(&later)
	return later, err
}

// begin writes rows, which have values for each column.
func (s spans) begin(ctx context.Context, tx *Tx, rows []any) error {
	columns := strings.Count(s.columns, ",") + 1
	for len(rows) > 0 {
		n := min(len(rows), columns*batch)
		if err := insertMany(ctx, tx, `INSERT INTO `+s.table+` (`+s.columns+`) VALUES `, columns, rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// from is what a query is about, called f: the table, with the past where it
// asks about that.
func (s spans) from(q insight.Query) string {
	now := `SELECT ` + s.columns + `, 0 AS until FROM ` + s.table
	if q.At.IsZero() && !q.History {
		return `(` + now + `) f`
	}
	return `(` + now + ` UNION ALL SELECT ` + s.columns + `, until FROM ` + s.table + `_past) f`
}

// changes compares what holds with what is said now: which of it ended, and
// what began. Of several with one key the last holds.
func changes[T, K comparable](held, said []T, key func(T) K) (ended, begun []T) {
	now := make(map[K]T, len(said))
	for _, one := range said {
		now[key(one)] = one
	}
	stays := make(map[K]bool, len(held))
	for _, one := range held {
		if now[key(one)] == one {
			stays[key(one)] = true
		} else {
			ended = append(ended, one)
		}
	}
	for _, one := range said {
		if k := key(one); !stays[k] {
			stays[k] = true
			begun = append(begun, now[k])
		}
	}
	return ended, begun
}

// place is a source and a service of an environment: what a message replaces.
type place struct{ source, service string }

const toldPlace = `cluster = ? AND environment_id = ? AND source = ? AND service = ?`

// tellFacts replaces the facts of the message's places.
func tellFacts(ctx context.Context, tx *Tx, it insight.Item, told insight.Facts, at int64) error {
	env, err := learnEnvironment(ctx, tx, it.Cluster, it.Environment)
	if err != nil {
		return err
	}
	for p, some := range byPlace(told, func(f insight.Fact) place { return place{f.Source, f.Service} }) {
		const where = toldPlace + ` AND place = ''`
		args := []any{it.Cluster, env.ID, p.source, p.service}
		if later, err := facts.superseded(ctx, tx, it, where, args...); err != nil || later {
			if err != nil {
				return err
			}
			continue
		}
		w := factWriter{cluster: it.Cluster, env: env, at: at}
		if err := w.replace(ctx, tx, some, where, args...); err != nil {
			return err
		}
	}
	return nil
}

func byPlace[T any](list []T, of func(T) place) map[place][]T {
	out := map[place][]T{}
	for _, one := range list {
		out[of(one)] = append(out[of(one)], one)
	}
	return out
}

// deriveFacts replaces what was derived from the service's documents of a kind.
func deriveFacts(ctx context.Context, tx *Tx, cluster fleet.AgentName, env insight.Environment, doc insight.Document, derived []insight.Fact, at int64) error {
	env.ID = 0 // known by the namespace
	w := factWriter{cluster: cluster, env: env, place: env.Place(), origin: doc.Kind, build: doc.Build, at: at}
	return w.replace(ctx, tx, derived, derivedFrom, cluster, w.place, doc.Service, doc.Kind)
}

const derivedFrom = `cluster = ? AND environment_id = 0 AND place = ? AND service = ? AND origin = ?`

// DerivedFacts implements insight.Store.
func (s *Store) DerivedFacts(ctx context.Context, d insight.DocumentRecord) (out []insight.Fact, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		out, err = heldFacts(ctx, tx, derivedFrom, d.Cluster, d.Environment.Place(), d.Service, d.Kind)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("facts of %s: %w", d.Digest, err)
	}
	return out, nil
}

// PutDerivedFacts implements insight.Store.
func (s *Store) PutDerivedFacts(ctx context.Context, d insight.DocumentRecord, derived []insight.Fact) error {
	err := s.update(ctx, func(tx *Tx) error {
		if err := tx.Lock(ctx, "insights of "+string(d.Cluster)); err != nil {
			return err
		}
		var current int
		if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM insight_inventory WHERE cluster = ? AND item = ? AND is_current = 1`, d.Cluster, d.Item).Scan(&current); err != nil || current == 0 {
			return err
		}
		if err := markPolicies(ctx, tx, d.Cluster, d.Environment.Namespace); err != nil {
			return err
		}
		return deriveFacts(ctx, tx, d.Cluster, d.Environment, insight.Document{Kind: d.Kind, Service: d.Service, Build: d.Build}, derived, micros(time.Now()))
	})
	if err != nil {
		return fmt.Errorf("facts of %s: %w", d.Digest, err)
	}
	return nil
}

// factWriter is what facts that are said at once have in common.
type factWriter struct {
	cluster fleet.AgentName
	env     insight.Environment
	place   string
	origin  insight.Kind
	build   string
	at      int64
}

// replace makes those that where chooses what is said now.
func (w factWriter) replace(ctx context.Context, tx *Tx, said []insight.Fact, where string, args ...any) error {
	held, err := heldFacts(ctx, tx, where, args...)
	if err != nil {
		return err
	}
	type key struct{ source, service, name string }
	ended, begun := changes(held, said, func(f insight.Fact) key { return key{f.Source, f.Service, f.Name} })
	for _, f := range ended {
		if err := facts.end(ctx, tx, w.at, toldPlace+` AND name = ? AND place = ? AND origin = ?`,
			w.cluster, w.env.ID, f.Source, f.Service, f.Name, w.place, w.origin); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `UPDATE insight_facts SET received = ?, build = ?, namespace = ?, project = ?, environment = ? WHERE `+where,
		append([]any{w.at, w.build, w.env.Namespace, w.env.Project, w.env.Name}, args...)...); err != nil {
		return err
	}
	var fresh []any
	for _, f := range begun {
		fresh = append(fresh, w.cluster, w.env.ID, w.place, f.Source, f.Service, f.Name, w.origin, w.env.Namespace, w.env.Project, w.env.Name,
			w.build, f.Value, f.Description, f.Type, f.Category, w.at, w.at)
	}
	return facts.begin(ctx, tx, fresh)
}

func heldFacts(ctx context.Context, tx *Tx, where string, args ...any) (out []insight.Fact, err error) {
	rows, err := tx.Query(ctx, `SELECT source, service, name, value, description, type, category FROM insight_facts WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	err = eachRow(rows, func() error {
		var f insight.Fact
		err := rows.Scan(&f.Source, &f.Service, &f.Name, &f.Value, &f.Description, &f.Type, &f.Category)
		out = append(out, f)
		return err
	})
	return out, err
}

// tellProblems replaces the problems of the message's places.
func tellProblems(ctx context.Context, tx *Tx, it insight.Item, told insight.Problems, at int64) error {
	env, err := learnEnvironment(ctx, tx, it.Cluster, it.Environment)
	if err != nil {
		return err
	}
	for p, some := range byPlace(told, func(p insight.Problem) place { return place{p.Source, p.Service} }) {
		if later, err := problems.superseded(ctx, tx, it, toldPlace, it.Cluster, env.ID, p.source, p.service); err != nil || later {
			if err != nil {
				return err
			}
			continue
		}
		if err := replaceProblems(ctx, tx, it.Cluster, env, p, some, at); err != nil {
			return err
		}
	}
	return nil
}

func replaceProblems(ctx context.Context, tx *Tx, cluster fleet.AgentName, env insight.Environment, in place, said []insight.Problem, at int64) error {
	args := []any{cluster, env.ID, in.source, in.service}
	rows, err := tx.Query(ctx, `
		SELECT source, service, identifier, associated_package, version, fixed_version, severity, severity_score, description, links, data
		FROM insight_problems WHERE `+toldPlace, args...)
	if err != nil {
		return err
	}
	var held []insight.Problem
	err = eachRow(rows, func() error {
		var p insight.Problem
		err := rows.Scan(&p.Source, &p.Service, &p.Identifier, &p.AssociatedPackage, &p.Version, &p.FixedVersion,
			&p.Severity, &p.SeverityScore, &p.Description, &p.Links, &p.Data)
		held = append(held, p)
		return err
	})
	if err != nil {
		return err
	}
	type key struct{ identifier, associated, version string }
	ended, begun := changes(held, said, func(p insight.Problem) key { return key{p.Identifier, p.AssociatedPackage, p.Version} })
	for _, p := range ended {
		if err := problems.end(ctx, tx, at, toldPlace+` AND identifier = ? AND associated_package = ? AND version = ?`,
			cluster, env.ID, p.Source, p.Service, p.Identifier, p.AssociatedPackage, p.Version); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `UPDATE insight_problems SET received = ?, namespace = ?, project = ?, environment = ? WHERE `+toldPlace,
		append([]any{at, env.Namespace, env.Project, env.Name}, args...)...); err != nil {
		return err
	}
	var fresh []any
	for _, p := range begun {
		fresh = append(fresh, cluster, env.ID, p.Source, p.Service, p.Identifier, p.AssociatedPackage, p.Version, env.Namespace, env.Project, env.Name,
			p.FixedVersion, p.Severity, p.SeverityScore, p.Description, p.Links, p.Data, at, at)
	}
	return problems.begin(ctx, tx, fresh)
}

func deleteInsights(ctx context.Context, tx *Tx, it insight.Item, d insight.Deletion, at int64) error {
	from := facts
	if d.Of == insight.KindProblems {
		from = problems
	}
	where, args := `cluster = ? AND environment_id = ? AND source = ?`, []any{it.Cluster, it.Environment.ID, d.Source}
	if d.Service != "" {
		where, args = where+` AND service = ?`, append(args, d.Service)
	}
	if !it.Came.IsZero() { // what was said since stays
		where, args = where+` AND received <= ?`, append(args, at)
	}
	return from.end(ctx, tx, at, where, args...)
}

// direct gives the conditions that facts and problems, called f, share.
func direct(q insight.Query) (f filter) {
	equal(&f, "f.cluster", q.Cluster)
	equal(&f, "f.namespace", q.Namespace)
	equal(&f, "f.project", q.Project)
	equal(&f, "f.environment", q.Environment)
	equal(&f, "f.service", q.Service)
	equal(&f, "f.source", q.Source)
	f.within(q, "f.cluster", "f.namespace")
	switch {
	case q.Since.IsZero():
	case q.History:
		f.where = append(f.where, "(f.since >= ? OR f.until >= ?)")
		f.args = append(f.args, micros(q.Since), micros(q.Since))
	default:
		f.with("f.since >= ?", micros(q.Since))
	}
	if !q.At.IsZero() {
		f.with("f.since <= ?", micros(q.At))
		f.with("(f.until = 0 OR f.until > ?)", micros(q.At))
	}
	return f
}

// Facts lists facts by place and name.
func (s *Store) Facts(ctx context.Context, q insight.Query) (out []insight.FactRecord, err error) {
	f := direct(q)
	equal(&f, "f.build", q.Build)
	if q.EnvironmentID != 0 {
		f.with("CASE WHEN f.environment_id = 0 THEN e.environment_id ELSE f.environment_id END = ?", q.EnvironmentID)
	}
	if q.Q != "" {
		f.with("f.name = ?", q.Q)
	}
	err = s.rows(ctx, `
		SELECT f.cluster, CASE WHEN f.environment_id = 0 THEN COALESCE(e.environment_id, 0) ELSE f.environment_id END,
			f.namespace, f.project, f.environment, f.source, f.service, f.name, f.value, f.description, f.type, f.category,
			f.build, f.since, f.until, f.received
		FROM `+facts.from(q)+` LEFT JOIN insight_environments e ON e.cluster = f.cluster AND e.namespace = f.namespace`,
		f, "f.cluster, f.environment_id, f.place, f.source, f.service, f.name, f.origin, f.since DESC", q, func(r *sql.Rows) error {
			var f insight.FactRecord
			var since, until, received int64
			err := r.Scan(&f.Cluster, &f.Environment.ID, &f.Environment.Namespace, &f.Environment.Project, &f.Environment.Name,
				&f.Source, &f.Service, &f.Name, &f.Value, &f.Description, &f.Type, &f.Category, &f.Build, &since, &until, &received)
			f.Since, f.Until, f.Received = fromMicros(since), fromMicros(until), fromMicros(received)
			out = append(out, f)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list facts: %w", err)
	}
	return out, nil
}

// Problems lists what agents were told, the gravest of each place first, and
// after it what was found in current SBOMs.
func (s *Store) Problems(ctx context.Context, q insight.Query) (out []insight.ProblemRecord, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		told := 0
		if q.Source != insight.SourceOSV && q.Build == "" { // what was told is of no build
			if out, told, err = toldProblems(ctx, tx, q); err != nil {
				return err
			}
		}
		if (q.Source != "" && q.Source != insight.SourceOSV) || len(out) == pageOf(q) {
			return nil
		}
		rest := q
		rest.History = false // of what was found, what stands alone is known
		rest.Offset = max(0, q.Offset-told)
		found, err := foundProblems(ctx, tx, rest, pageOf(q)-len(out))
		out = append(out, found...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list problems: %w", err)
	}
	return out, nil
}

// toldProblems lists a page of what agents were told; all is how many there
// are.
func toldProblems(ctx context.Context, tx *Tx, q insight.Query) (out []insight.ProblemRecord, all int, err error) {
	f := direct(q)
	equal(&f, "f.environment_id", q.EnvironmentID)
	equal(&f, "f.identifier", q.Q)
	where := ""
	if len(f.where) > 0 {
		where = " WHERE " + strings.Join(f.where, " AND ")
	}
	if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM `+problems.from(q)+where, f.args...).Scan(&all); err != nil {
		return nil, 0, err
	}
	rows, err := tx.Query(ctx, `
		SELECT cluster, environment_id, namespace, project, environment, source, service, identifier, version,
			fixed_version, severity, severity_score, associated_package, description, links, data, since, until, received
		FROM `+problems.from(q)+where+`
		ORDER BY cluster, environment_id, source, service, severity_score DESC, identifier, associated_package, version, since DESC
		LIMIT ? OFFSET ?`, append(f.args, pageOf(q), q.Offset)...)
	if err != nil {
		return nil, 0, err
	}
	err = eachRow(rows, func() error {
		var p insight.ProblemRecord
		var since, until, received int64
		err := rows.Scan(&p.Cluster, &p.Environment.ID, &p.Environment.Namespace, &p.Environment.Project, &p.Environment.Name,
			&p.Source, &p.Service, &p.Identifier, &p.Version, &p.FixedVersion, &p.Severity, &p.SeverityScore,
			&p.AssociatedPackage, &p.Description, &p.Links, &p.Data, &since, &until, &received)
		p.Since, p.Until, p.Received = fromMicros(since), fromMicros(until), fromMicros(received)
		out = append(out, p)
		return err
	})
	return out, all, err
}
