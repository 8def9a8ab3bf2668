package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/scan"
)

var _ policy.Recorder = (*Store)(nil)

// BeginPolicyRun implements policy.Recorder.
func (s *Store) BeginPolicyRun(ctx context.Context, r policy.Run) error {
	err := s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO policy_runs (id, source, policy, cause, whole, config, holder, state, reason, began, ended, expected, passed, failed, unknown)
			VALUES (?, ?, ?, ?, ?, ?, ?, 'running', '', ?, 0, ?, 0, 0, 0)`,
			r.ID, r.Source, r.Policy, r.Cause, bit(r.Whole), r.Config, r.Holder, micros(r.Began), r.Expected)
		return err
	})
	if err != nil {
		return fmt.Errorf("begin run %s of %s: %w", r.ID, r.Source, err)
	}
	return nil
}

// ReopenPolicyRun implements policy.Recorder.
func (s *Store) ReopenPolicyRun(ctx context.Context, id policy.RunID) error {
	err := s.update(ctx, func(tx *Tx) error {
		r, err := runToChange(ctx, tx, id)
		if err == nil && r.State == policy.Complete {
			err = policy.ErrRunOver
		}
		if err == nil {
			_, err = tx.Exec(ctx, `UPDATE policy_runs SET state = 'running', reason = '', ended = 0 WHERE id = ?`, id)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("go on with run %s: %w", id, err)
	}
	return nil
}

// ExpectResults implements policy.Recorder.
func (s *Store) ExpectResults(ctx context.Context, id policy.RunID, n int) error {
	err := s.update(ctx, func(tx *Tx) error {
		n, err := affected(tx.Exec(ctx, `UPDATE policy_runs SET expected = ? WHERE id = ? AND state = 'running'`, n, id))
		if err == nil && n == 0 {
			err = policy.ErrRunOver
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("run %s: %w", id, err)
	}
	return nil
}

// RecordResults implements policy.Recorder.
func (s *Store) RecordResults(ctx context.Context, id policy.RunID, results []fleet.Result, now time.Time) error {
	err := s.update(ctx, func(tx *Tx) error {
		r, err := runToChange(ctx, tx, id)
		if err != nil {
			return err
		}
		if r.State != policy.Running {
			return policy.ErrRunOver
		}
		n, emissions, err := s.recordResults(ctx, tx, r.Source, string(id), false, results, now)
		if err != nil {
			return err
		}
		if err := s.emit(ctx, tx, alert.Emit{Run: string(id), Source: emitter(r), Expected: r.Expected, Emissions: emissions}); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE policy_runs SET passed = passed + ?, failed = failed + ?, unknown = unknown + ? WHERE id = ?`,
			n.Passed, n.Failed, n.Unknown, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("record results of run %s: %w", id, err)
	}
	return nil
}

// standing is how a subject stood before.
type standing struct {
	verdict policy.Verdict
	since   int64
	run     string
	sinks   string
}

// emitter is what a run is the source of alerts as.
func emitter(r policy.Run) string {
	if r.Source == policy.Fleet && r.Policy != "" {
		return "policy:" + r.Policy
	}
	return r.Source
}

// recordResults notes how subjects stand, which are pods' containers or not. It
// counts what the run had no result of yet, and answers what is to be told of that.
func (s *Store) recordResults(ctx context.Context, tx *Tx, source, run string, pods bool, results []fleet.Result, now time.Time) (n policy.Tally, tell []alert.Emission, err error) {
	const columns = 13
	var left []alert.Emission // to sinks that aren't told any more
	for part := range slices.Chunk(results, batch) {
		before, err := standings(ctx, tx, source, part)
		if err != nil {
			return n, nil, err
		}
		var rows []any
		for _, r := range part {
			o := r.Outcome
			o.Run = run
			if o.At.IsZero() {
				o.At = now
			}
			if o, err = alert.Clean(o); err != nil {
				return n, nil, err
			}
			verdict, count := verdictOf(r, &n)
			if r.Unknown != "" {
				o.Details = r.Unknown
			}
			key := subjectKey{o.Policy, o.Subject}
			old, known := before[key]
			if known && old.run == run {
				continue
			}
			*count++
			since := micros(o.At)
			if known && old.verdict == verdict {
				since = old.since
			}
			before[key] = standing{verdict: verdict, since: since, run: run}
			e := alert.Emission{Outcome: o, Agent: r.Agent, Namespace: r.Namespace}
			sinks := old.sinks
			if verdict != policy.Unknown {
				e.Sinks = r.Sinks
				if others := without(old.sinks, r.Sinks); others != "" {
					left = append(left, s.gone(o, others, r.Agent, r.Namespace, "the policy doesn't name this receiver any more"))
				}
				sinks = ""
			}
			if verdict == policy.Failed {
				sinks = strings.Join(r.Sinks, ",")
			}
			rows = append(rows, source, o.Policy, o.Subject.Owner, o.Subject.Repo, r.Agent, r.Namespace, verdict, o.Details, since, micros(o.At), run, sinks, bit(pods))
			tell = append(tell, e)
		}
		if len(rows) == 0 {
			continue
		}
		row := "(" + strings.TrimSuffix(strings.Repeat("?, ", columns), ", ") + ")"
		if _, err := tx.Exec(ctx, `
			INSERT INTO policy_subjects (source, policy, owner, repo, agent, namespace, verdict, details, since, checked, run, sinks, pod)
			VALUES `+strings.TrimSuffix(strings.Repeat(row+", ", len(rows)/columns), ", ")+`
			ON CONFLICT (source, policy, owner, repo) DO UPDATE SET
				agent = excluded.agent, namespace = excluded.namespace, verdict = excluded.verdict, details = excluded.details,
				since = excluded.since, checked = excluded.checked, run = excluded.run, sinks = excluded.sinks, pod = excluded.pod,
				absent = CASE WHEN excluded.verdict = 'unknown' THEN policy_subjects.absent ELSE 0 END,
				unchosen = CASE WHEN excluded.verdict = 'unknown' THEN policy_subjects.unchosen ELSE 0 END`, rows...); err != nil {
			return n, nil, err
		}
	}
	return n, tell, s.emit(ctx, tx, alert.Emit{Run: run, Alone: true, Emissions: left})
}

// without are the names in a list with commas that others hasn't.
func without(list string, others []string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(list, ","), func(name string) bool { return slices.Contains(others, name) }), ",")
}

// gone is what sinks are told of a subject whose failure they know and that isn't
// checked any more.
func (s *Store) gone(o fleet.Outcome, sinks string, agent fleet.AgentName, namespace, why string) alert.Emission {
	o.Pass, o.Gone = false, true
	o.Details = fmt.Sprintf("%s isn't checked on %s %s any more: %s. Whether it would pass isn't known.\n", o.Policy, o.Subject.Owner, o.Subject.Repo, why)
	e := alert.Emission{Outcome: o, Agent: agent, Namespace: namespace}
	for _, sink := range strings.Split(sinks, ",") {
		if sink != "" && s.tellsGone(sink) {
			e.Sinks = append(e.Sinks, sink)
		}
	}
	return e
}

// ending is a subject that isn't checked any more.
type ending struct {
	subjectKey
	agent      fleet.AgentName
	namespace  string
	sinks, why string
}

// end forgets subjects, and has those told who know of their failure.
func (s *Store) end(ctx context.Context, tx *Tx, source, run string, list []ending, now time.Time) error {
	var tell []alert.Emission
	for part := range slices.Chunk(list, batch) {
		args := []any{source}
		for _, e := range part {
			args = append(args, e.policy, e.Owner, e.Repo)
			o := fleet.Outcome{Subject: e.Subject, Policy: e.policy, Run: run, At: now}
			if told := s.gone(o, e.sinks, e.agent, e.namespace, e.why); len(told.Sinks) > 0 {
				tell = append(tell, told)
			}
		}
		if _, err := tx.Exec(ctx, `DELETE FROM policy_subjects
			WHERE source = ? AND (policy, owner, repo) IN (VALUES (?, ?, ?)`+strings.Repeat(`, (?, ?, ?)`, len(part)-1)+`)`, args...); err != nil {
			return err
		}
	}
	return s.emit(ctx, tx, alert.Emit{Run: run, Alone: true, Emissions: tell})
}

// endSubjects ends those that meet the conditions and of which why answers
// something. The run has no result of them.
func (s *Store) endSubjects(ctx context.Context, tx *Tx, source, run string, f filter, now time.Time, why func(policy.SubjectRecord) string) (out []fleet.Outcome, err error) {
	f.with("source = ?", source)
	rows, err := tx.Query(ctx, `SELECT policy, owner, repo, agent, namespace, verdict, sinks FROM policy_subjects WHERE `+strings.Join(f.where, " AND ")+
		` ORDER BY policy, owner, repo`+tx.dialect.ForUpdate, f.args...)
	if err != nil {
		return nil, err
	}
	var list []ending
	err = eachRow(rows, func() error {
		var r policy.SubjectRecord
		var sinks string
		if err := rows.Scan(&r.Policy, &r.Subject.Owner, &r.Subject.Repo, &r.Agent, &r.Namespace, &r.Verdict, &sinks); err != nil {
			return err
		}
		if reason := why(r); reason != "" {
			list = append(list, ending{subjectKey{r.Policy, r.Subject}, r.Agent, r.Namespace, sinks, reason})
			out = append(out, fleet.Outcome{Subject: r.Subject, Policy: r.Policy, Run: run, Gone: true, Details: reason, At: now})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, s.end(ctx, tx, source, run, list, now)
}

// EndSubjects implements policy.Recorder.
func (s *Store) EndSubjects(ctx context.Context, id policy.RunID, of policy.Query, why func(policy.SubjectRecord) string, now time.Time) (out []fleet.Outcome, err error) {
	missing := func(r policy.Run) filter {
		f := subjects(policy.Query{Source: r.Source, Policy: of.Policy, Agent: of.Agent, Namespace: of.Namespace})
		f.with("run <> ?", id)
		f.with("checked < ?", micros(r.Began))
		return f
	}
	// Mostly there are none, which needs no right to write.
	r, err := s.PolicyRun(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.State != policy.Running {
		return nil, policy.ErrRunOver
	}
	some := false
	err = s.list(ctx, `SELECT 1 FROM policy_subjects`, missing(r), ` LIMIT 1`, nil, func(*sql.Rows) error { some = true; return nil })
	if err != nil || !some {
		return nil, err
	}
	err = s.update(ctx, func(tx *Tx) error {
		r, err := runToChange(ctx, tx, id)
		if err != nil {
			return err
		}
		if r.State != policy.Running {
			return policy.ErrRunOver
		}
		f := missing(r)
		out, err = s.endSubjects(ctx, tx, r.Source, string(id), f, now, why)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("end subjects in run %s: %w", id, err)
	}
	return out, nil
}

// StandingPolicies implements policy.Store.
func (s *Store) StandingPolicies(ctx context.Context, source string) (out []string, err error) {
	err = s.list(ctx, `SELECT DISTINCT policy FROM policy_subjects`, filter{where: []string{"source = ?"}, args: []any{source}}, ` ORDER BY policy`, nil, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		out = append(out, name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("policies that subjects stand by: %w", err)
	}
	return out, nil
}

// judgedByScan records what policies come to by the end of a scan.
func (s *Store) judgedByScan(ctx context.Context, tx *Tx, c scan.Scan, f scan.Finish, now time.Time) error {
	pod := c.Request.Target.URI == ""
	unjudged := s.unjudged(c, f)
	var unseen []subjectKey
	if pod && len(unjudged) > 0 {
		var err error
		if unseen, err = unseenSubjects(ctx, tx, c.Request.Target, unjudged, now); err != nil {
			return err
		}
	}
	_, tell, err := s.recordResults(ctx, tx, policy.Fleet, string(c.ID), pod, slices.Concat(f.Results, unjudged), now)
	for _, e := range tell {
		if err == nil {
			err = s.enqueueOutcomes(ctx, tx, []fleet.Outcome{e.Outcome}, e.Sinks, policy.Place{Agent: e.Agent, Namespace: e.Namespace})
		}
	}
	if err == nil {
		err = setSince(ctx, tx, "absent", unseen, micros(now.Add(unseenFor-settled)))
	}
	return err
}

// unseenSubjects are those of results that aren't any yet, where the container isn't
// in its agent's view: it is newer, or it is gone, and doesn't become a subject again
// by being asked for.
func unseenSubjects(ctx context.Context, tx *Tx, t scan.Target, results []fleet.Result, now time.Time) (out []subjectKey, err error) {
	unseen, err := podUnseen(ctx, tx, t, now)
	if err != nil || !unseen {
		return nil, err
	}
	before, err := standings(ctx, tx, policy.Fleet, results)
	for _, r := range results {
		key := subjectKey{r.Outcome.Policy, r.Outcome.Subject}
		if _, known := before[key]; !known {
			out = append(out, key)
		}
	}
	return out, err
}

// unjudged is what policies come to by a scan that ends in error.
func (s *Store) unjudged(c scan.Scan, f scan.Finish) []fleet.Result {
	if f.Status != scan.Error || c.Selector != nil || s.judgeErrors == nil {
		return nil
	}
	c.Reason = f.Reason
	return s.judgeErrors(c)
}

// endUnselected ends what policies had from scans of containers that selection c
// was to find and didn't, if one a day before hadn't either: those that a selection
// like it led to, and, where c chooses by no labels and no workload, all others, too.
// The agent has looked through the pods for it, so what isn't found doesn't run, or
// isn't chosen.
func (s *Store) endUnselected(ctx context.Context, tx *Tx, c scan.Scan, found []scan.Scan, now time.Time) error {
	var f filter
	f.with("agent = ?", c.Request.Target.Agent)
	f.where = append(f.where, "pod = 1")
	equal(&f, "namespace", c.Selector.Namespace)
	if c.Selector.Container != "" || c.Selector.Labels != "" || c.Selector.Kind != "" {
		of := `EXISTS (SELECT 1 FROM scans s WHERE s.id = policy_subjects.run`
		if c.Selector.Container != "" {
			of += ` AND s.container = ?`
			f.args = append(f.args, c.Selector.Container)
		}
		if c.Selector.Labels != "" || c.Selector.Kind != "" {
			selector, err := json.Marshal(c.Selector)
			if err != nil {
				return err
			}
			of += ` AND EXISTS (SELECT 1 FROM scans b WHERE b.batch = s.batch AND b.batch <> '' AND b.agent = s.agent AND b.selector <> '' AND b.selector = ?)`
			f.args = append(f.args, string(selector))
		}
		f.where = append(f.where, of+`)`)
	}
	there := map[fleet.Subject]bool{}
	for _, one := range found {
		there[one.Request.Target.Subject()] = true
	}
	query := append(slices.Clone(f.where), "source = ?")
	rows, err := tx.Query(ctx, `SELECT policy, owner, repo, unchosen FROM policy_subjects WHERE `+strings.Join(query, " AND "), append(slices.Clone(f.args), policy.Fleet)...)
	if err != nil {
		return err
	}
	var missed, back []subjectKey
	err = eachRow(rows, func() error {
		var k subjectKey
		var unchosen int64
		err := rows.Scan(&k.policy, &k.Owner, &k.Repo, &unchosen)
		switch is := there[k.Subject]; {
		case is && unchosen > 0:
			back = append(back, k)
		case !is && unchosen == 0:
			missed = append(missed, k)
		}
		return err
	})
	if err == nil {
		err = setSince(ctx, tx, "unchosen", missed, micros(c.Started))
	}
	if err == nil {
		err = setSince(ctx, tx, "unchosen", back, 0)
	}
	if err != nil {
		return err
	}
	f.where = append(f.where, "unchosen > 0")
	f.with("unchosen <= ?", micros(c.Started.Add(-settled)))
	_, err = s.endSubjects(ctx, tx, policy.Fleet, string(c.ID), f, now, func(policy.SubjectRecord) string {
		return "it doesn't run any more, or isn't chosen to be scanned"
	})
	return err
}

// setSince notes since when subjects are absent, or unchosen; 0: they aren't.
func setSince(ctx context.Context, tx *Tx, column string, subjects []subjectKey, since int64) error {
	for part := range slices.Chunk(subjects, batch) {
		args := []any{since, policy.Fleet}
		for _, k := range part {
			args = append(args, k.policy, k.Owner, k.Repo)
		}
		if _, err := tx.Exec(ctx, `UPDATE policy_subjects SET `+column+` = ?
			WHERE source = ? AND (policy, owner, repo) IN (VALUES (?, ?, ?)`+strings.Repeat(`, (?, ?, ?)`, len(part)-1)+`)`, args...); err != nil {
			return err
		}
	}
	return nil
}

// verdictOf is that of a result, and where it is counted in n.
func verdictOf(r fleet.Result, n *policy.Tally) (policy.Verdict, *int) {
	switch {
	case r.Unknown != "":
		return policy.Unknown, &n.Unknown
	case r.Outcome.Pass:
		return policy.Passed, &n.Passed
	}
	return policy.Failed, &n.Failed
}

type subjectKey struct {
	policy string
	fleet.Subject
}

func standings(ctx context.Context, tx *Tx, source string, results []fleet.Result) (map[subjectKey]standing, error) {
	args := []any{source}
	for _, r := range results {
		o, err := alert.Clean(r.Outcome)
		if err != nil {
			return nil, err
		}
		args = append(args, o.Policy, o.Subject.Owner, o.Subject.Repo)
	}
	rows, err := tx.Query(ctx, `
		SELECT policy, owner, repo, verdict, since, run, sinks FROM policy_subjects
		WHERE source = ? AND (policy, owner, repo) IN (VALUES (?, ?, ?)`+strings.Repeat(`, (?, ?, ?)`, len(results)-1)+`)`+tx.dialect.ForUpdate, args...)
	if err != nil {
		return nil, err
	}
	out := make(map[subjectKey]standing, len(results))
	err = eachRow(rows, func() error {
		var k subjectKey
		var st standing
		err := rows.Scan(&k.policy, &k.Owner, &k.Repo, &st.verdict, &st.since, &st.run, &st.sinks)
		out[k] = st
		return err
	})
	return out, err
}

// EndPolicyRun implements policy.Recorder.
func (s *Store) EndPolicyRun(ctx context.Context, id policy.RunID, reason string, now time.Time) error {
	err := s.update(ctx, func(tx *Tx) error {
		r, err := runToChange(ctx, tx, id)
		if err != nil || r.State != policy.Running {
			return err
		}
		if err := s.emit(ctx, tx, alert.Emit{Run: string(id), Source: emitter(r), Expected: r.Expected, Done: true, Note: reason}); err != nil {
			return err
		}
		return s.endPolicyRun(ctx, tx, r, reason, now)
	})
	if err != nil {
		return fmt.Errorf("end run %s: %w", id, err)
	}
	return nil
}

// endPolicyRun ends r, which is locked.
func (s *Store) endPolicyRun(ctx context.Context, tx *Tx, r policy.Run, reason string, now time.Time) error {
	state := policy.Complete
	if n := r.Passed + r.Failed + r.Unknown; reason == "" && n != r.Expected {
		reason = fmt.Sprintf("it has %d of %d results", n, r.Expected)
	}
	if reason != "" {
		state = policy.Truncated
	}
	if _, err := tx.Exec(ctx, `UPDATE policy_runs SET state = ?, reason = ?, ended = ? WHERE id = ?`, state, reason, micros(now), r.ID); err != nil {
		return err
	}
	if !r.Whole || state != policy.Complete {
		return nil
	}
	// What was recorded since the run began may be about something newer than
	// the run has seen.
	var f filter
	f.with("run <> ?", r.ID)
	f.with("checked < ?", micros(r.Began))
	equal(&f, "policy", r.Policy)
	_, err := s.endSubjects(ctx, tx, r.Source, string(r.ID), f, now, func(policy.SubjectRecord) string { return policy.Missing })
	return err
}

// AbandonPolicyRuns implements policy.Recorder.
func (s *Store) AbandonPolicyRuns(ctx context.Context, source, holder, reason string, now time.Time) error {
	err := s.update(ctx, func(tx *Tx) error {
		query, args := `UPDATE policy_runs SET state = 'truncated', reason = ?, ended = ? WHERE state = 'running' AND source = ?`, []any{reason, micros(now), source}
		if holder != "" {
			query, args = query+` AND holder = ?`, append(args, holder)
		}
		_, err := tx.Exec(ctx, query, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("abandon runs of %s: %w", source, err)
	}
	return nil
}

const policyRunColumns = `id, source, policy, cause, whole, config, holder, state, reason, began, ended, expected, passed, failed, unknown`

func scanPolicyRun(row interface{ Scan(...any) error }) (r policy.Run, err error) {
	var whole, began, ended int64
	err = row.Scan(&r.ID, &r.Source, &r.Policy, &r.Cause, &whole, &r.Config, &r.Holder, &r.State, &r.Reason, &began, &ended, &r.Expected, &r.Passed, &r.Failed, &r.Unknown)
	r.Whole, r.Began, r.Ended = whole != 0, fromMicros(began), fromMicros(ended)
	return r, err
}

func runToChange(ctx context.Context, tx *Tx, id policy.RunID) (policy.Run, error) {
	r, err := scanPolicyRun(tx.QueryRow(ctx, `SELECT `+policyRunColumns+` FROM policy_runs WHERE id = ?`+tx.dialect.ForUpdate, id))
	if errors.Is(err, sql.ErrNoRows) {
		err = policy.ErrNotFound
	}
	return r, err
}

// PolicyRun finds a run; policy.ErrNotFound if there is none.
func (s *Store) PolicyRun(ctx context.Context, id policy.RunID) (r policy.Run, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		r, err = scanPolicyRun(tx.QueryRow(ctx, `SELECT `+policyRunColumns+` FROM policy_runs WHERE id = ?`, id))
		if errors.Is(err, sql.ErrNoRows) {
			err = policy.ErrNotFound
		}
		return err
	})
	if err != nil {
		return r, fmt.Errorf("run %.80q of policies: %w", string(id), err)
	}
	return r, nil
}

// PolicyRuns lists runs, the newest first.
func (s *Store) PolicyRuns(ctx context.Context, q policy.Query) (out []policy.Run, err error) {
	var f filter
	equal(&f, "source", q.Source)
	equal(&f, "policy", q.Policy)
	equal(&f, "state", q.State)
	if q.Before != "" {
		f.with("id < ?", q.Before)
	}
	err = s.list(ctx, `SELECT `+policyRunColumns+` FROM policy_runs`, f, ` ORDER BY id DESC LIMIT ?`, []any{pageLimit(q.Limit)}, func(rows *sql.Rows) error {
		r, err := scanPolicyRun(rows)
		out = append(out, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list runs of policies: %w", err)
	}
	return out, nil
}

// list runs a query with the conditions, and what comes after them.
func (s *Store) list(ctx context.Context, query string, f filter, rest string, more []any, each func(*sql.Rows) error) error {
	if len(f.where) > 0 {
		query += " WHERE " + strings.Join(f.where, " AND ")
	}
	return s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, query+rest, append(f.args, more...)...)
		if err != nil {
			return err
		}
		return eachRow(rows, func() error { return each(rows) })
	})
}

// LastRuns is the latest run of each policy of a source that was about all
// subjects, or, where it has none, the latest of all.
func (s *Store) LastRuns(ctx context.Context, source string) (map[string]policy.Run, error) {
	out := map[string]policy.Run{}
	f := filter{where: []string{`id IN (SELECT MAX(id) FROM policy_runs WHERE source = ? GROUP BY policy, whole)`}, args: []any{source}}
	err := s.list(ctx, `SELECT `+policyRunColumns+` FROM policy_runs`, f, ` ORDER BY whole, id`, nil, func(rows *sql.Rows) error {
		r, err := scanPolicyRun(rows)
		out[r.Policy] = r
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("last runs of %s: %w", source, err)
	}
	return out, nil
}

func subjects(q policy.Query) (f filter) {
	equal(&f, "source", q.Source)
	equal(&f, "policy", q.Policy)
	equal(&f, "verdict", q.Verdict)
	equal(&f, "agent", q.Agent)
	equal(&f, "namespace", q.Namespace)
	equal(&f, "owner", q.Subject.Owner)
	equal(&f, "repo", q.Subject.Repo)
	if cond, args := inScopes(q.Within, "agent", "namespace"); cond != "" {
		f.where, f.args = append(f.where, cond), append(f.args, args...)
	}
	return f
}

// PolicySubjects lists how subjects stand, by policy and subject.
func (s *Store) PolicySubjects(ctx context.Context, q policy.Query) (out []policy.SubjectRecord, err error) {
	err = s.list(ctx, `SELECT source, policy, owner, repo, agent, namespace, verdict, details, since, checked, run FROM policy_subjects`,
		subjects(q), ` ORDER BY source, policy, owner, repo LIMIT ? OFFSET ?`, []any{pageLimit(q.Limit), q.Offset}, func(rows *sql.Rows) error {
			var r policy.SubjectRecord
			var since, checked int64
			err := rows.Scan(&r.Source, &r.Policy, &r.Subject.Owner, &r.Subject.Repo, &r.Agent, &r.Namespace, &r.Verdict, &r.Details, &since, &checked, &r.Run)
			r.Since, r.Checked = fromMicros(since), fromMicros(checked)
			out = append(out, r)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list subjects of policies: %w", err)
	}
	return out, nil
}

// PolicyTallies counts the subjects of each policy of a source by how they
// stand.
func (s *Store) PolicyTallies(ctx context.Context, q policy.Query) (map[string]policy.Tally, error) {
	out := map[string]policy.Tally{}
	err := s.list(ctx, `SELECT policy, verdict, COUNT(*) FROM policy_subjects`, subjects(q), ` GROUP BY policy, verdict`, nil, func(rows *sql.Rows) error {
		var name string
		var v policy.Verdict
		var n int
		err := rows.Scan(&name, &v, &n)
		t := out[name]
		switch v {
		case policy.Passed:
			t.Passed = n
		case policy.Failed:
			t.Failed = n
		default:
			t.Unknown = n
		}
		out[name] = t
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count subjects of policies: %w", err)
	}
	return out, nil
}

// RemovePolicyRuns forgets runs that ended before a time, and subjects of a
// source that nobody has checked since then.
func (s *Store) RemovePolicyRuns(ctx context.Context, before time.Time) error {
	err := s.update(ctx, func(tx *Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM policy_runs WHERE ended > 0 AND ended < ?`, micros(before)); err != nil {
			return err
		}
		sources, err := texts(tx.Query(ctx, `SELECT DISTINCT source FROM policy_subjects`))
		for _, source := range sources {
			if err == nil {
				var f filter
				f.with("checked < ?", micros(before))
				_, err = s.endSubjects(ctx, tx, source, string(policy.NewRunID()), f, time.Now(), func(policy.SubjectRecord) string {
					return "nobody has checked it since " + before.UTC().Format(time.DateOnly)
				})
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove old runs of policies: %w", err)
	}
	return nil
}

var _ policy.Store = (*Store)(nil)

// markPolicies has the policies evaluated anew at a place, in the transaction
// that changes what is known of it; all of an agent's where namespace is empty,
// and everywhere where agent is, too.
func markPolicies(ctx context.Context, tx *Tx, agent fleet.AgentName, namespace string) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO policy_marks (agent, namespace, stamp) VALUES (?, ?, ?)
		ON CONFLICT (agent, namespace) DO UPDATE SET stamp = policy_marks.stamp + 1`, agent, namespace, micros(time.Now()))
	tx.Notify(topicPolicies)
	return err
}

const topicPolicies = "policies"

// PoliciesMarked implements policy.Store.
func (s *Store) PoliciesMarked() <-chan struct{} { return s.wait(topicPolicies) }

// markInsight marks what an item is about, and where else its image runs if it
// counts there.
func (s *Store) markInsight(ctx context.Context, tx *Tx, it insight.Item, parsed *insight.Parsed) error {
	env := it.Environment
	if env.Namespace == "" {
		var err error
		if env, err = findEnvironment(ctx, tx, it.Cluster, env); err != nil {
			return err
		}
	}
	if err := markPolicies(ctx, tx, it.Cluster, env.Namespace); err != nil {
		return err
	}
	image := ""
	if parsed != nil {
		image = parsed.ImageDigest()
	}
	if image == "" || !slices.ContainsFunc(s.sbomsFrom, func(p fleet.Scope) bool { return p.Has(it.Cluster, env.Namespace) }) {
		return nil
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO policy_marks (agent, namespace, stamp) SELECT DISTINCT cluster, namespace, CAST(? AS BIGINT) FROM workloads WHERE digest = ?
		ON CONFLICT (agent, namespace) DO UPDATE SET stamp = policy_marks.stamp + 1`, micros(time.Now()), image)
	return err
}

// PolicyMarks implements policy.Store.
func (s *Store) PolicyMarks(ctx context.Context) (out []policy.Mark, err error) {
	err = s.list(ctx, `SELECT agent, namespace, stamp FROM policy_marks`, filter{}, ` ORDER BY agent, namespace`, nil, func(rows *sql.Rows) error {
		var m policy.Mark
		err := rows.Scan(&m.Agent, &m.Namespace, &m.Stamp)
		out = append(out, m)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("what policies are to be evaluated: %w", err)
	}
	return out, nil
}

// ClearPolicyMarks implements policy.Store.
func (s *Store) ClearPolicyMarks(ctx context.Context, marks []policy.Mark) error {
	if len(marks) == 0 {
		return nil
	}
	err := s.update(ctx, func(tx *Tx) error {
		for _, m := range marks {
			if _, err := tx.Exec(ctx, `DELETE FROM policy_marks WHERE agent = ? AND namespace = ? AND stamp = ?`, m.Agent, m.Namespace, m.Stamp); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("what policies were evaluated: %w", err)
	}
	return nil
}

// PolicyLayers implements policy.Store.
func (s *Store) PolicyLayers(ctx context.Context) ([]policy.Layer, error) {
	annotated, err := s.readLayers(ctx, `SELECT agent, namespace, text, '', since FROM policy_annotations`, filter{})
	if err != nil {
		return nil, err
	}
	for i := range annotated {
		annotated[i].By = policy.ByAnnotation
	}
	put, err := s.policyLayers(ctx, filter{})
	out := append(annotated, put...)
	slices.SortStableFunc(out, func(a, b policy.Layer) int {
		return cmp.Or(cmp.Compare(a.Agent, b.Agent), cmp.Compare(a.Namespace, b.Namespace))
	})
	return out, err
}

// putPolicyAnnotations keeps what the namespaces of an agent say by annotations, as
// far as that is known, and adds those that say something else to changed.
func putPolicyAnnotations(ctx context.Context, tx *Tx, agent fleet.AgentName, texts map[string]string, changed map[string]bool, at int64) error {
	if texts == nil {
		return nil
	}
	rows, err := tx.Query(ctx, `SELECT namespace, text FROM policy_annotations WHERE agent = ?`, agent)
	if err != nil {
		return err
	}
	before := map[string]string{}
	err = eachRow(rows, func() error {
		var namespace, text string
		err := rows.Scan(&namespace, &text)
		before[namespace] = text
		return err
	})
	if err != nil {
		return err
	}
	for _, namespace := range slices.Sorted(maps.Keys(texts)) {
		text := strings.ReplaceAll(strings.ToValidUTF8(texts[namespace], "\uFFFD"), "\x00", "\uFFFD")
		old, known := before[namespace]
		delete(before, namespace)
		if known && old == text {
			continue
		}
		changed[namespace] = true
		if _, err := tx.Exec(ctx, `
			INSERT INTO policy_annotations (agent, namespace, text, since) VALUES (?, ?, ?, ?)
			ON CONFLICT (agent, namespace) DO UPDATE SET text = excluded.text, since = excluded.since`, agent, namespace, text, at); err != nil {
			return err
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(before)) {
		// Where nothing runs that may come back there may be no such namespace, unless
		// the view has it, for what isn't up yet or a CronJob. What it said of that holds
		// until it is forgotten.
		var waits bool
		if err := tx.QueryRow(ctx, `SELECT COUNT(*) > 0 AND COALESCE(MIN(absent), 0) > 0 FROM workloads WHERE cluster = ? AND namespace = ?
			AND NOT EXISTS (SELECT 1 FROM inventory_namespaces WHERE cluster = ? AND namespace = ?)`,
			agent, namespace, agent, namespace).Scan(&waits); err != nil {
			return err
		}
		if waits {
			continue
		}
		changed[namespace] = true
		if _, err := tx.Exec(ctx, `DELETE FROM policy_annotations WHERE agent = ? AND namespace = ?`, agent, namespace); err != nil {
			return err
		}
	}
	return nil
}

// PolicyLayer is that of a namespace; policy.ErrNotFound where it has none.
func (s *Store) PolicyLayer(ctx context.Context, p policy.Place) (policy.Layer, error) {
	var f filter
	f.with("agent = ?", p.Agent)
	f.with("namespace = ?", p.Namespace)
	found, err := s.policyLayers(ctx, f)
	if err == nil && len(found) == 0 {
		err = policy.ErrNotFound
	}
	if err != nil {
		return policy.Layer{}, err
	}
	return found[0], nil
}

func (s *Store) policyLayers(ctx context.Context, f filter) ([]policy.Layer, error) {
	return s.readLayers(ctx, `SELECT agent, namespace, text, put_by, put_at FROM policy_layers`, f)
}

func (s *Store) readLayers(ctx context.Context, query string, f filter) (out []policy.Layer, err error) {
	err = s.list(ctx, query, f, ` ORDER BY agent, namespace`, nil, func(rows *sql.Rows) error {
		var l policy.Layer
		var at int64
		err := rows.Scan(&l.Agent, &l.Namespace, &l.Text, &l.By, &at)
		l.At = fromMicros(at)
		out = append(out, l)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("overrides of policies: %w", err)
	}
	return out, nil
}

// PutPolicyLayer keeps what a namespace says, if it says was until now; nil
// asks for nothing, and the empty text is none. It has the policies evaluated
// anew there. It returns policy.ErrTooManyLayers where l.By has put so many.
func (s *Store) PutPolicyLayer(ctx context.Context, l policy.Layer, was *string) (created bool, err error) {
	err = s.changeLayer(ctx, l.Place, was, func(tx *Tx, before string) error {
		created = before == ""
		var n int
		if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM policy_layers WHERE put_by = ? AND NOT (agent = ? AND namespace = ?)`,
			l.By, l.Agent, l.Namespace).Scan(&n); err != nil {
			return err
		}
		if n >= policy.MaxLayers {
			return policy.ErrTooManyLayers
		}
		_, err := tx.Exec(ctx, `
			INSERT INTO policy_layers (agent, namespace, text, put_by, put_at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (agent, namespace) DO UPDATE SET text = excluded.text, put_by = excluded.put_by, put_at = excluded.put_at`,
			l.Agent, l.Namespace, l.Text, l.By, micros(l.At))
		return err
	})
	return created, err
}

// DeletePolicyLayer removes what a namespace says, as PutPolicyLayer puts it.
func (s *Store) DeletePolicyLayer(ctx context.Context, p policy.Place, was *string) error {
	return s.changeLayer(ctx, p, was, func(tx *Tx, before string) error {
		if before == "" {
			return policy.ErrNotFound
		}
		_, err := tx.Exec(ctx, `DELETE FROM policy_layers WHERE agent = ? AND namespace = ?`, p.Agent, p.Namespace)
		return err
	})
}

func (s *Store) changeLayer(ctx context.Context, p policy.Place, was *string, change func(tx *Tx, before string) error) error {
	err := s.update(ctx, func(tx *Tx) error {
		if err := tx.Lock(ctx, "overrides of policies"); err != nil {
			return err
		}
		var before string
		err := tx.QueryRow(ctx, `SELECT text FROM policy_layers WHERE agent = ? AND namespace = ?`, p.Agent, p.Namespace).Scan(&before)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if was != nil && *was != before {
			return policy.ErrChanged
		}
		if err := change(tx, before); err != nil {
			return err
		}
		return markPolicies(ctx, tx, p.Agent, p.Namespace)
	})
	if err != nil {
		return fmt.Errorf("override of %s/%s: %w", p.Agent, p.Namespace, err)
	}
	return nil
}
