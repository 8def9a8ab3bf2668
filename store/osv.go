package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/osv"
)

var _ osv.Store = (*Store)(nil)

// osvTopic is announced when packages are to be matched.
const osvTopic = "osv"

// OSVNoted implements osv.Store.
func (s *Store) OSVNoted() <-chan struct{} { return s.wait(osvTopic) }

// PutOSV implements osv.Store.
func (s *Store) PutOSV(ctx context.Context, entries []osv.Entry, at time.Time) (changed int, err error) {
	err = s.update(ctx, func(tx *Tx) error {
		// The last of those that are there twice holds.
		latest := map[string]osv.Entry{}
		for _, e := range entries {
			latest[e.ID] = e
		}
		ids := make([]string, 0, len(latest))
		for id := range latest {
			ids = append(ids, id)
		}
		slices.Sort(ids) // all in one order, so that nobody waits for each other
		if err := tx.Lock(ctx, "osv"); err != nil {
			return err
		}
		stored, err := osvModified(ctx, tx, ids)
		if err != nil {
			return err
		}
		var old, fresh []string
		for _, id := range ids {
			modified, known := stored[id]
			e := latest[id]
			if known && (e.Withdrawn || modified != micros(e.Modified)) {
				old = append(old, id)
			}
			if !e.Withdrawn && (!known || modified != micros(e.Modified)) {
				fresh = append(fresh, id)
			}
		}
		packages, err := removeOSV(ctx, tx, old)
		if err != nil {
			return err
		}
		for _, id := range fresh {
			for _, a := range latest[id].Affected {
				packages = append(packages, a.Package)
			}
		}
		changed = len(fresh)
		for _, id := range old {
			if latest[id].Withdrawn {
				changed++
			}
		}
		if err := insertOSV(ctx, tx, fresh, latest); err != nil {
			return err
		}
		if err := noteEcosystems(ctx, tx, fresh, latest); err != nil {
			return err
		}
		return note(ctx, tx, packages, micros(at))
	})
	if err != nil {
		return 0, fmt.Errorf("import vulnerabilities: %w", err)
	}
	return changed, nil
}

func osvModified(ctx context.Context, tx *Tx, ids []string) (map[string]int64, error) {
	out := map[string]int64{}
	for part := range slices.Chunk(ids, batch) {
		var args []any
		rows, err := tx.Query(ctx, `SELECT id, modified FROM osv_entries WHERE id IN (`+list(part, &args)+`)`, args...)
		if err != nil {
			return nil, err
		}
		err = eachRow(rows, func() error {
			var id string
			var modified int64
			err := rows.Scan(&id, &modified)
			out[id] = modified
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// eachRow calls f at each row, and closes them.
func eachRow(rows *sql.Rows, f func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := f(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// removeOSV removes entries and answers which packages they were about.
func removeOSV(ctx context.Context, tx *Tx, ids []string) (packages []string, err error) {
	for part := range slices.Chunk(ids, batch) {
		var args []any
		these := list(part, &args)
		some, err := texts(tx.Query(ctx, `DELETE FROM osv_affected WHERE entry IN (`+these+`) RETURNING package`, args...))
		if err != nil {
			return nil, err
		}
		packages = append(packages, some...)
		for _, table := range []string{"osv_aliases WHERE entry", "osv_entries WHERE id"} {
			if _, err := tx.Exec(ctx, `DELETE FROM `+table+` IN (`+these+`)`, args...); err != nil {
				return nil, err
			}
		}
	}
	return packages, nil
}

func insertOSV(ctx context.Context, tx *Tx, ids []string, from map[string]osv.Entry) error {
	var entries, aliases, affected []any
	for _, id := range ids {
		e := from[id]
		entries = append(entries, e.ID, micros(e.Modified), e.CVE, e.Summary, e.Severity, e.Score)
		for _, a := range e.Aliases {
			aliases = append(aliases, a, e.ID)
		}
		for i, a := range e.Affected {
			versions, err := json.Marshal(a.Versions)
			if err != nil {
				return err
			}
			affected = append(affected, a.Package, e.ID, i, a.Ecosystem, string(versions))
		}
	}
	for _, table := range []struct {
		into    string
		columns int
		values  []any
	}{
		{`INSERT INTO osv_entries (id, modified, cve, summary, severity, score) VALUES `, 6, entries},
		{`INSERT INTO osv_aliases (alias, entry) VALUES `, 2, aliases},
		{`INSERT INTO osv_affected (package, entry, number, ecosystem, versions) VALUES `, 5, affected},
	} {
		for part := range slices.Chunk(table.values, batch*table.columns) {
			if err := insertMany(ctx, tx, table.into, table.columns, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// noteEcosystems notes of which ecosystems there are entries now. What was judged
// without them is judged anew.
func noteEcosystems(ctx context.Context, tx *Tx, ids []string, from map[string]osv.Entry) error {
	names := map[string]bool{}
	for _, id := range ids {
		for _, a := range from[id].Affected {
			names[a.Ecosystem] = true
		}
	}
	any := false
	for _, name := range slices.Sorted(maps.Keys(names)) {
		n, err := affected(tx.Exec(ctx, `INSERT INTO osv_ecosystems (name) VALUES (?) ON CONFLICT (name) DO NOTHING`, name))
		if err != nil {
			return err
		}
		any = any || n > 0
	}
	if !any {
		return nil
	}
	return markPolicies(ctx, tx, "", "")
}

// note has the components of packages matched anew.
func note(ctx context.Context, tx *Tx, packages []string, at int64) error {
	slices.Sort(packages)
	packages = slices.Compact(packages)
	for part := range slices.Chunk(packages, batch) {
		var args []any
		for _, p := range part {
			args = append(args, p, at)
		}
		// The row is written also where it is there: so who matches the package
		// now waits for this transaction, or this one for that.
		row := strings.TrimSuffix(strings.Repeat("(?, ?), ", len(part)), ", ")
		if _, err := tx.Exec(ctx, `
			INSERT INTO osv_pending (package, since) VALUES `+row+`
			ON CONFLICT (package) DO UPDATE SET since = excluded.since`, args...); err != nil {
			return err
		}
	}
	if len(packages) > 0 {
		tx.Notify(osvTopic)
	}
	return nil
}

// noteFresh is note for packages of which a component is new, as far as any
// vulnerability of them is known.
func noteFresh(ctx context.Context, tx *Tx, packages []string, at int64) error {
	var known []string
	for part := range slices.Chunk(packages, batch) {
		var args []any
		some, err := texts(tx.Query(ctx, `SELECT DISTINCT package FROM osv_affected WHERE package IN (`+list(part, &args)+`)`, args...))
		if err != nil {
			return err
		}
		known = append(known, some...)
	}
	return note(ctx, tx, known, at)
}

// finding is the key of a row of osv_findings.
type finding struct {
	component int64
	entry     string
}

// MatchOSV implements osv.Store.
func (s *Store) MatchOSV(ctx context.Context, limit int, judge osv.Judge, at time.Time) (n int, err error) {
	limit = min(limit, batch)
	// Mostly there is nothing to do, which a look tells that stops nobody.
	err = s.view(ctx, func(tx *Tx) error { return tx.QueryRow(ctx, `SELECT COUNT(*) FROM osv_pending`).Scan(&n) })
	if err != nil || n == 0 {
		return 0, err
	}
	err = s.update(ctx, func(tx *Tx) error {
		packages, err := texts(tx.Query(ctx, `
			DELETE FROM osv_pending WHERE package IN (SELECT package FROM osv_pending ORDER BY package LIMIT ?) RETURNING package`, limit))
		n = len(packages)
		if err != nil || n == 0 {
			return err
		}
		var args []any
		these := list(packages, &args)
		components, err := readComponents(ctx, tx, componentColumns+` WHERE package IN (`+these+`)`, args...)
		if err != nil || len(components) == 0 {
			return err
		}
		candidates, err := readCandidates(ctx, tx, these, args)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(components, batch) {
			if err := rematch(ctx, tx, part, candidates, judge, micros(at)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("match vulnerabilities: %w", err)
	}
	return n, nil
}

func readCandidates(ctx context.Context, tx *Tx, packages string, args []any) (map[string][]osv.Candidate, error) {
	rows, err := tx.Query(ctx, `SELECT package, entry, ecosystem, versions FROM osv_affected WHERE package IN (`+packages+`) ORDER BY package, entry, number`, args...)
	if err != nil {
		return nil, err
	}
	out := map[string][]osv.Candidate{}
	err = eachRow(rows, func() error {
		var c osv.Candidate
		var versions string
		if err := rows.Scan(&c.Package, &c.Entry, &c.Ecosystem, &versions); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(versions), &c.Versions); err != nil {
			return fmt.Errorf("versions of %s: %w", c.Entry, err)
		}
		out[c.Package] = append(out[c.Package], c)
		return nil
	})
	return out, err
}

// rematch makes the findings of components what judge says.
func rematch(ctx context.Context, tx *Tx, components []storedComponent, candidates map[string][]osv.Candidate, judge osv.Judge, at int64) error {
	ids := make([]int64, len(components))
	for i, c := range components {
		ids[i] = c.id
	}
	var args []any
	rows, err := tx.Query(ctx, `SELECT component_id, entry, fixed FROM osv_findings WHERE component_id IN (`+list(ids, &args)+`)`, args...)
	if err != nil {
		return err
	}
	stale := map[finding]string{}
	err = eachRow(rows, func() error {
		var f finding
		var fixed string
		err := rows.Scan(&f.component, &f.entry, &fixed)
		stale[f] = fixed
		return err
	})
	if err != nil {
		return err
	}
	var fresh []any
	for _, c := range components {
		for _, f := range judge(c.PURL, candidates[c.pkg]) {
			key := finding{c.id, f.Entry}
			if fixed, known := stale[key]; !known || fixed != f.Fixed {
				fresh = append(fresh, c.id, f.Entry, f.Fixed, at)
			}
			delete(stale, key)
		}
	}
	if len(fresh)+len(stale) > 0 {
		if err := markPolicies(ctx, tx, "", ""); err != nil {
			return err
		}
	}
	for f := range stale {
		if _, err := tx.Exec(ctx, `DELETE FROM osv_findings WHERE component_id = ? AND entry = ?`, f.component, f.entry); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(fresh, 4*batch) {
		row := strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?), ", len(part)/4), ", ")
		if _, err := tx.Exec(ctx, `
			INSERT INTO osv_findings (component_id, entry, fixed, found) VALUES `+row+`
			ON CONFLICT (component_id, entry) DO UPDATE SET fixed = excluded.fixed`, part...); err != nil {
			return err
		}
	}
	return nil
}

// foundProblem is a finding with what its entry says.
type foundProblem struct {
	component int64
	entry     string
	fixed     string
	found     int64
	cve       string
	summary   string
	severity  string
	score     float64
}

func readFindings(ctx context.Context, tx *Tx, where string, args ...any) (map[int64][]foundProblem, error) {
	rows, err := tx.Query(ctx, `
		SELECT f.component_id, f.entry, f.fixed, f.found, e.cve, e.summary, e.severity, e.score
		FROM osv_findings f JOIN osv_entries e ON e.id = f.entry`+where+` ORDER BY f.component_id, e.score DESC, e.id`, args...)
	if err != nil {
		return nil, err
	}
	out := map[int64][]foundProblem{}
	err = eachRow(rows, func() error {
		var f foundProblem
		err := rows.Scan(&f.component, &f.entry, &f.fixed, &f.found, &f.cve, &f.summary, &f.severity, &f.score)
		out[f.component] = append(out[f.component], f)
		return err
	})
	return out, err
}

// identified is the condition that an entry is called id.
const identified = `(e.id = ? OR e.cve = ? OR e.id IN (SELECT entry FROM osv_aliases WHERE alias = ?))`

// manyFindings is from how many on it costs less to look at place after place
// than to find out where they all are.
const manyFindings = 5000

// foundProblems lists what components of current SBOMs have, place by place,
// from q.Offset on.
func foundProblems(ctx context.Context, tx *Tx, q insight.Query, limit int) ([]insight.ProblemRecord, error) {
	f := filter{where: []string{"1 = 1"}}
	if q.Q != "" {
		f.where, f.args = append(f.where, identified), append(f.args, q.Q, q.Q, q.Q)
	}
	if !q.Since.IsZero() {
		f.with("f.found >= ?", micros(q.Since))
	}
	if !q.At.IsZero() {
		f.with("f.found <= ?", micros(q.At))
	}
	where := " WHERE " + strings.Join(f.where, " AND ")
	var n int
	err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM osv_findings f JOIN osv_entries e ON e.id = f.entry`+where, f.args...).Scan(&n)
	if err != nil || n == 0 {
		return nil, err
	}
	l := &problemList{query: q, skip: q.Offset, limit: limit}
	if n > manyFindings {
		err = l.walk(ctx, tx, where, f.args)
	} else {
		err = l.search(ctx, tx, where, f.args)
	}
	if err != nil {
		return nil, err
	}
	return l.records(ctx, tx)
}

// problemList gathers a page of findings and their places.
type problemList struct {
	query       insight.Query
	skip, limit int
	findings    map[int64][]foundProblem // by component
	told        *said
	chosen      []chosenProblem
}

type chosenProblem struct {
	placed
	foundProblem
	said *insight.StatementRecord
}

// search finds out where the findings are.
func (l *problemList) search(ctx context.Context, tx *Tx, where string, args []any) (err error) {
	if l.findings, err = readFindings(ctx, tx, where, args...); err != nil {
		return err
	}
	ids := slices.Sorted(maps.Keys(l.findings))
	holding, err := holders(ctx, tx, ids)
	if err != nil {
		return err
	}
	of := map[int64][]int64{} // components, by document
	for _, id := range ids {
		for _, d := range holding[id] {
			of[d] = append(of[d], id)
		}
	}
	documents := slices.Collect(maps.Keys(of))
	if err := l.hear(ctx, tx, documents); err != nil {
		return err
	}
	return places(ctx, tx, l.query, documents, func(p placed) bool { return l.add(p, of[p.document]) })
}

// walk looks at some places at a time, in their order.
func (l *problemList) walk(ctx context.Context, tx *Tx, where string, args []any) error {
	const atOnce = 8
	f := inventory(l.query)
	equal(&f, "d.digest", l.query.Digest)
	f.standing(l.query)
	f.with("v.kind = ?", insight.KindSBOM)
	for offset := 0; ; offset += atOnce {
		rows, err := tx.Query(ctx, placeColumns+" WHERE "+strings.Join(f.where, " AND ")+" ORDER BY v.cluster, v.place, v.service LIMIT ? OFFSET ?",
			append(slices.Clone(f.args), atOnce, offset)...)
		if err != nil {
			return err
		}
		var some []placed
		var documents []int64
		err = eachRow(rows, func() error {
			p, err := scanPlaced(rows)
			some, documents = append(some, p), append(documents, p.document)
			return err
		})
		if err != nil || len(some) == 0 {
			return err
		}
		of := map[int64][]int64{}
		var in []any
		err = eachMember(ctx, tx, ` WHERE document_id IN (`+list(documents, &in)+`)`, in, func(d, c int64) { of[d] = append(of[d], c) })
		if err != nil {
			return err
		}
		ids, err := members(ctx, tx, documents)
		if err != nil {
			return err
		}
		l.findings = map[int64][]foundProblem{}
		for part := range slices.Chunk(ids, batch) {
			these := slices.Clone(args)
			found, err := readFindings(ctx, tx, where+` AND f.component_id IN (`+list(part, &these)+`)`, these...)
			if err != nil {
				return err
			}
			maps.Copy(l.findings, found)
		}
		if err := l.hear(ctx, tx, documents); err != nil {
			return err
		}
		for _, p := range some {
			if !l.add(p, of[p.document]) {
				return nil
			}
		}
	}
}

// hear reads what was said of the findings in documents.
func (l *problemList) hear(ctx context.Context, tx *Tx, documents []int64) (err error) {
	if l.told, err = readSaid(ctx, tx, l.findings); err != nil || l.told == nil {
		return err
	}
	return l.told.readProducts(ctx, tx, documents)
}

// add adds what components have at a place; false when the page is full.
func (l *problemList) add(p placed, components []int64) bool {
	for _, id := range components {
		for _, f := range l.findings[id] {
			said := l.told.on(p.document, f)
			if said != nil && said.Status.Clears() && !l.query.Cleared {
				continue
			}
			if l.skip > 0 {
				l.skip--
				continue
			}
			if l.chosen = append(l.chosen, chosenProblem{p, f, said}); len(l.chosen) == l.limit {
				return false
			}
		}
	}
	return true
}

func (l *problemList) records(ctx context.Context, tx *Tx) (out []insight.ProblemRecord, err error) {
	ids := map[int64]bool{}
	for _, c := range l.chosen {
		ids[c.component] = true
	}
	components, err := componentsByID(ctx, tx, slices.Sorted(maps.Keys(ids)))
	if err != nil {
		return nil, err
	}
	byID := map[int64]storedComponent{}
	for _, c := range components {
		byID[c.id] = c
	}
	for _, c := range l.chosen {
		r := problemOf(c.placed, byID[c.component], c.foundProblem)
		r.Said = c.said
		out = append(out, r)
	}
	return out, nil
}

func problemOf(p placed, c storedComponent, f foundProblem) insight.ProblemRecord {
	data, _ := json.Marshal(map[string]string{"osv": f.entry, "purl": c.PURL, "sbom": string(p.Digest)}) // strings
	return insight.ProblemRecord{
		Cluster: p.Cluster, Environment: p.Environment, Since: fromMicros(f.found), Received: fromMicros(f.found),
		Problem: insight.Problem{
			Identifier: f.cve, Version: c.Version, FixedVersion: f.fixed, Source: insight.SourceOSV, Service: p.Service,
			Severity: strings.ToUpper(f.severity), SeverityScore: f.score / 10, AssociatedPackage: c.Name,
			Description: f.summary, Links: "https://osv.dev/vulnerability/" + f.entry, Data: string(data),
		},
	}
}
