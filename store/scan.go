package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store/blob"
)

var (
	_ scan.Store  = (*Store)(nil)
	_ scan.Agents = (*Store)(nil)
)

func topicQueued(agent fleet.AgentName) string { return "queued " + string(agent) }
func topicScan(id scan.ID) string              { return "scan " + string(id) }

// ScanQueued implements scan.Store.
func (s *Store) ScanQueued(agent fleet.AgentName) <-chan struct{} { return s.wait(topicQueued(agent)) }

// ScanChanged implements scan.Store.
func (s *Store) ScanChanged(id scan.ID) <-chan struct{} { return s.wait(topicScan(id)) }

// changed wakes, once the transaction is durable, whoever waits for the scan
// or, where it is queued, for work.
func changed(tx *Tx, c scan.Scan) {
	tx.Notify(topicScan(c.ID))
	if c.Status == scan.Queued {
		tx.Notify(topicQueued(c.Request.Target.Agent))
	}
}

// PutDocument implements scan.Store.
func (s *Store) PutDocument(r io.Reader, limit int64) (string, int64, error) {
	d, n, err := s.blobs.Put(r, limit)
	if errors.Is(err, blob.ErrTooLarge) {
		err = fmt.Errorf("%w: %w", scan.ErrBadResult, err)
	}
	return string(d), n, err
}

// HasDocument implements scan.Store.
func (s *Store) HasDocument(digest string) (bool, error) { return s.blobs.Has(blob.Digest(digest)) }

// Document implements scan.Store.
func (s *Store) Document(digest string) (io.ReadCloser, error) {
	return s.blobs.Get(blob.Digest(digest))
}

// callbackRequest and callbackSecret are the columns of a scan's callback;
// the secret is apart so that it can be erased.
type callbackRequest struct {
	URL      string `json:"url"`
	Type     string `json:"type,omitempty"`
	Username string `json:"username,omitempty"`
}

type callbackSecret struct {
	Token    string `json:"token,omitempty"`
	Password string `json:"password,omitempty"`
	Secret   string `json:"secret,omitempty"`
}

// CreateScan implements scan.Store.
func (s *Store) CreateScan(ctx context.Context, c scan.Scan) error {
	return s.update(ctx, func(tx *Tx) error {
		if err := takeKey(ctx, tx, c.Request.Key, string(c.ID), c.Created); err != nil {
			return err
		}
		return insertScan(ctx, tx, c)
	})
}

// classes are how priorities are stored: the first comes first.
var classes = map[scan.Priority]int64{scan.High: 0, scan.Normal: 1, "": 1, scan.Low: 2}

var priorities = []scan.Priority{scan.High, scan.Normal, scan.Low}

// turn is that of a new scan among those of its class that wait for the agent:
// start-time fair queueing, with a scan for the unit. A caller's scans have
// consecutive turns, and one who has none waiting begins at the turn that is
// served now; so callers take turns, however many scans each has queued, and
// the next is found by an index.
func turn(ctx context.Context, tx *Tx, c scan.Scan) (n int64, err error) {
	const waiting = ` FROM scans WHERE agent = ? AND status = 'queued' AND class = ?`
	agent, class := c.Request.Target.Agent, classes[c.Request.Priority]
	var now, mine int64
	err = tx.QueryRow(ctx, `SELECT COALESCE(MIN(turn), 0)`+waiting, agent, class).Scan(&now)
	if err == nil {
		err = tx.QueryRow(ctx, `SELECT COALESCE(MAX(turn) + 1, 0)`+waiting+` AND requested_by = ?`, agent, class, c.Request.RequestedBy).Scan(&mine)
	}
	return max(now, mine), err
}

func insertScan(ctx context.Context, tx *Tx, c scan.Scan) error {
	inputs, err := json.Marshal(c.Request.Inputs)
	if err != nil {
		return fmt.Errorf("inputs: %w", err)
	}
	var selector []byte
	kind := c.Request.Target.Kind()
	if c.Selector != nil {
		kind = scan.KindSelector
		if selector, err = json.Marshal(c.Selector); err != nil {
			return fmt.Errorf("selector: %w", err)
		}
	}
	turn, err := turn(ctx, tx, c)
	if err != nil {
		return err
	}
	var callback, secret []byte
	if cb := c.Request.Callback; cb != nil {
		if callback, err = json.Marshal(callbackRequest{URL: cb.URL, Type: cb.Type, Username: cb.Username}); err != nil {
			return fmt.Errorf("callback: %w", err)
		}
		if secret, err = json.Marshal(callbackSecret{Token: string(cb.Token), Password: string(cb.Password), Secret: string(cb.Secret)}); err != nil {
			return fmt.Errorf("callback: %w", err)
		}
	}
	r, t := c.Request, c.Request.Target
	_, err = tx.Exec(ctx, `
		INSERT INTO scans (id, status, agent, kind, namespace, pod, container, uri,
			profile, profile_version, profile_digest, threshold, threshold_digest, inputs, timeout,
			requested_by, callback, callback_secret, created, expires, total, batch, selector, class, turn, method, not_before, standing, actions, sbom)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		c.ID, c.Status, t.Agent, kind, t.Namespace, t.Pod, t.Container, t.URI,
		r.Profile, c.ProfileVersion, c.ProfileDigest, r.Threshold, c.ThresholdDigest, string(inputs), r.Timeout.Microseconds(),
		r.RequestedBy, string(callback), string(secret), micros(c.Created), micros(c.Expires), c.Progress.Total,
		c.Batch, string(selector), classes[r.Priority], turn, r.Method, micros(c.NotBefore), bit(r.Standing), strings.Join(r.Actions, "\n"), bit(r.SBOM))
	changed(tx, c)
	return err
}

// takeKey notes the key of a new request, which led to what id names, and
// forgets old ones.
func takeKey(ctx context.Context, tx *Tx, k scan.Key, id string, now time.Time) error {
	if k == (scan.Key{}) {
		return nil
	}
	if _, err := tx.Exec(ctx, `DELETE FROM scan_keys WHERE created <= ?`, micros(now.Add(-scan.KeyLife))); err != nil {
		return err
	}
	n, err := affected(tx.Exec(ctx, `
		INSERT INTO scan_keys (caller, name, digest, scan, created) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (caller, name) DO NOTHING`,
		k.Caller, k.Name, k.Digest, id, micros(now)))
	if err == nil && n == 0 {
		err = scan.ErrKeyUsed
	}
	return err
}

// ScanByKey implements scan.Store.
func (s *Store) ScanByKey(ctx context.Context, k scan.Key, now time.Time) (c scan.Scan, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		id, err := byKey(ctx, tx, k, now)
		if err == nil {
			c, err = scanByID(ctx, tx, scan.ID(id))
		}
		return err
	})
	return c, err
}

// OpenByKey implements scan.Store.
func (s *Store) OpenByKey(ctx context.Context, caller string, after scan.ID, limit int) (out []scan.Keyed, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT k.scan, k.name FROM scan_keys k JOIN scans s ON s.id = k.scan
			WHERE k.caller = ? AND k.scan > ? AND s.status IN ('queued', 'running') ORDER BY k.scan LIMIT ?`, caller, after, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var k scan.Keyed
			if err := rows.Scan(&k.ID, &k.Key); err != nil {
				return err
			}
			out = append(out, k)
		}
		return rows.Err()
	})
	return out, err
}

// byKey is what the request that k names led to.
func byKey(ctx context.Context, tx *Tx, k scan.Key, now time.Time) (id string, err error) {
	var digest string
	err = tx.QueryRow(ctx, `SELECT scan, digest FROM scan_keys WHERE caller = ? AND name = ? AND created > ?`,
		k.Caller, k.Name, micros(now.Add(-scan.KeyLife))).Scan(&id, &digest)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", scan.ErrNotFound
	case err == nil && digest != k.Digest:
		return "", scan.ErrKeyUsed
	}
	return id, err
}

const scanColumns = `id, status, outcome, reason, agent, namespace, pod, container, uri,
	profile, profile_version, profile_digest, threshold, threshold_digest, inputs, timeout, requested_by, callback, callback_secret,
	created, started, finished, expires, attempt, lease_instance, lease_expires, done, total, control,
	passed, failed, skipped, errors, compliance, findings, result_digest, result_size, batch, selector, class, not_before, method, entry_method, entry_reason, standing, actions, sbom`

func scanScan(row interface{ Scan(...any) error }) (c scan.Scan, err error) {
	var (
		inputs, callback, secret, findings, selector, actions                      string
		timeout, created, started, finished, expires, leased, next, standing, sbom int64
		class                                                                      int
	)
	r, t, n := &c.Request, &c.Request.Target, &c.Counts
	err = row.Scan(&c.ID, &c.Status, &c.Outcome, &c.Reason, &t.Agent, &t.Namespace, &t.Pod, &t.Container, &t.URI,
		&r.Profile, &c.ProfileVersion, &c.ProfileDigest, &r.Threshold, &c.ThresholdDigest, &inputs, &timeout, &r.RequestedBy, &callback, &secret,
		&created, &started, &finished, &expires, &c.Attempt, &c.Lease.Instance, &leased, &c.Progress.Done, &c.Progress.Total, &c.Progress.Control,
		&n.Passed, &n.Failed, &n.Skipped, &n.Error, &c.Compliance, &findings, &c.ResultDigest, &c.ResultSize,
		&c.Batch, &selector, &class, &next, &r.Method, &c.Entry.Method, &c.Entry.Reason, &standing, &actions, &sbom)
	if err != nil {
		return c, err
	}
	if class >= 0 && class < len(priorities) {
		r.Priority = priorities[class]
	}
	if selector != "" {
		if err := json.Unmarshal([]byte(selector), &c.Selector); err != nil {
			return c, fmt.Errorf("selector: %w", err)
		}
	}
	r.SBOM = sbom == 1
	c.NotBefore = fromMicros(next)
	if r.Standing = standing != 0; actions != "" {
		r.Actions = strings.Split(actions, "\n")
	}
	r.Timeout = time.Duration(timeout) * time.Microsecond
	c.Created, c.Started, c.Finished = fromMicros(created), fromMicros(started), fromMicros(finished)
	c.Expires, c.Lease.Expires = fromMicros(expires), fromMicros(leased)
	if r.Callback, err = callbackOfScan(callback, secret); err != nil {
		return c, err
	}
	if r.Inputs, err = scan.DecodeInputs([]byte(inputs)); err != nil {
		return c, err
	}
	return c, json.Unmarshal([]byte(findings), &c.Findings)
}

func callbackOfScan(callback, secret string) (*scan.Callback, error) {
	if callback == "" {
		return nil, nil
	}
	var (
		c callbackRequest
		p callbackSecret
	)
	if err := json.Unmarshal([]byte(callback), &c); err != nil {
		return nil, fmt.Errorf("callback: %w", err)
	}
	if secret != "" && json.Unmarshal([]byte(secret), &p) != nil {
		return nil, errors.New("callback: its credential is damaged")
	}
	return &scan.Callback{
		URL: c.URL, Type: c.Type, Username: c.Username,
		Token: scan.Secret(p.Token), Password: scan.Secret(p.Password), Secret: scan.Secret(p.Secret),
	}, nil
}

// Scan implements scan.Store.
func (s *Store) Scan(ctx context.Context, id scan.ID) (c scan.Scan, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		c, err = scanByID(ctx, tx, id)
		return err
	})
	return c, err
}

func scanByID(ctx context.Context, tx *Tx, id scan.ID) (scan.Scan, error) {
	return oneScan(tx.QueryRow(ctx, `SELECT `+scanColumns+` FROM scans WHERE id = ?`, id))
}

// scanToChange is scanByID that keeps others from changing the scan.
func scanToChange(ctx context.Context, tx *Tx, id scan.ID) (scan.Scan, error) {
	return oneScan(tx.QueryRow(ctx, `SELECT `+scanColumns+` FROM scans WHERE id = ?`+tx.dialect.ForUpdate, id))
}

func oneScan(row *sql.Row) (scan.Scan, error) {
	c, err := scanScan(row)
	if errors.Is(err, sql.ErrNoRows) {
		return scan.Scan{}, scan.ErrNotFound
	}
	return c, err
}

// Scans implements scan.Store.
func (s *Store) Scans(ctx context.Context, f scan.Filter) (out []scan.Scan, err error) {
	where, args := []string{"selector = ''"}, []any{}
	with := func(cond string, arg any) { where, args = append(where, cond), append(args, arg) }
	if f.Status != "" {
		with("status = ?", f.Status)
	}
	if f.Agent != "" {
		with("agent = ?", f.Agent)
	}
	if f.Outcome != "" {
		with("outcome = ?", f.Outcome)
	}
	if f.Namespace != "" {
		with("namespace = ?", f.Namespace)
	}
	if f.Profile != "" {
		with("profile = ?", f.Profile)
	}
	if f.Batch != "" {
		with("batch = ?", f.Batch)
	}
	if f.Series != nil {
		one, of := oneSeries(*f.Series)
		where, args = append(where, one), append(args, of...)
	}
	if f.Before != "" {
		with("id < ?", f.Before)
	}
	if cond, in := inScopes(f.Within, "agent", "namespace"); cond != "" {
		where, args = append(where, cond), append(args, in...)
	}
	err = s.view(ctx, func(tx *Tx) error {
		out, err = queryScans(ctx, tx, strings.Join(where, " AND ")+` ORDER BY id DESC LIMIT ?`, append(args, pageLimit(f.Limit))...)
		return err
	})
	return out, err
}

// pageLimit is how many rows a page has that was asked for with limit.
func pageLimit(limit int) int {
	if limit <= 0 {
		return 100
	}
	return min(limit, 1000)
}

func queryScans(ctx context.Context, tx *Tx, where string, args ...any) ([]scan.Scan, error) {
	rows, err := tx.Query(ctx, `SELECT `+scanColumns+` FROM scans WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []scan.Scan
	for rows.Next() {
		c, err := scanScan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

// LeaseScan implements scan.Store.
func (s *Store) LeaseScan(ctx context.Context, t scan.Taker, now time.Time) (c scan.Scan, err error) {
	if len(t.Kinds) == 0 {
		return c, scan.ErrNotFound
	}
	// Most calls find nothing, and those needn't wait for the writer.
	var waiting int
	query, args := takeable("1 AS one", t, now)
	query = `SELECT COUNT(*) FROM (` + query + ` LIMIT 1) AS found`
	err = s.view(ctx, func(tx *Tx) error { return tx.QueryRow(ctx, query, args...).Scan(&waiting) })
	if err != nil {
		return c, err
	}
	if waiting == 0 {
		return c, scan.ErrNotFound
	}
	err = s.update(ctx, func(tx *Tx) error {
		c, err = s.lease(ctx, tx, t, now)
		return err
	})
	return c, err
}

// takeable is the query for what t may be given now.
func takeable(columns string, t scan.Taker, now time.Time) (string, []any) {
	args := []any{t.Agent, micros(now), micros(now)}
	query := `SELECT ` + columns + ` FROM scans WHERE agent = ? AND status = 'queued' AND expires > ? AND not_before <= ? AND kind IN (` + list(t.Kinds, &args) + `)`
	if len(t.Holding) > 0 {
		query += ` AND id NOT IN (` + list(t.Holding, &args) + `)`
	}
	return query, args
}

func (s *Store) lease(ctx context.Context, tx *Tx, t scan.Taker, now time.Time) (scan.Scan, error) {
	query, args := takeable("id", t, now)
	var id scan.ID
	err := tx.QueryRow(ctx, query+` ORDER BY class, turn, id LIMIT 1`+tx.dialect.SkipLocked, args...).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return scan.Scan{}, scan.ErrNotFound
	}
	if err != nil {
		return scan.Scan{}, err
	}
	_, err = tx.Exec(ctx, `
		UPDATE scans SET status = 'running', reason = '', attempt = attempt + 1, started = ?,
			expires = ? + timeout, not_before = 0, lease_instance = ?, lease_expires = ?, done = 0, control = ''
		WHERE id = ?`,
		micros(now), micros(now.Add(t.Grace)), t.Instance, micros(now.Add(t.LeaseFor)), id)
	if err != nil {
		return scan.Scan{}, err
	}
	c, err := scanByID(ctx, tx, id)
	changed(tx, c)
	return c, err
}

// RenewLease implements scan.Store.
func (s *Store) RenewLease(ctx context.Context, r scan.Renewal, now time.Time) error {
	return s.update(ctx, func(tx *Tx) error {
		c, err := scanToChange(ctx, tx, r.ID)
		switch {
		case err != nil:
			return err
		case c.Request.Target.Agent != r.Agent, r.Attempt < 1, r.Attempt > c.Attempt:
			return scan.ErrNotFound
		case c.Status.Final():
			return finished(c)
		case r.Attempt < c.Attempt, c.Lease.Instance != r.Instance:
			return scan.ErrStale
		}
		if c.Status == scan.Queued {
			c.Expires = now.Add(c.Request.Timeout)
		}
		c.Status = scan.Running
		changed(tx, c)
		_, err = tx.Exec(ctx, `
			UPDATE scans SET status = ?, reason = '', expires = ?, lease_expires = ?, done = ?, total = ?, control = ?
			WHERE id = ?`,
			c.Status, micros(c.Expires), micros(now.Add(r.LeaseFor)), r.Progress.Done, r.Progress.Total, r.Progress.Control, c.ID)
		return err
	})
}

func finished(c scan.Scan) error { return fmt.Errorf("%w: it is %s", scan.ErrFinished, c.Status) }

// FinishScan implements scan.Store.
func (s *Store) FinishScan(ctx context.Context, f scan.Finish, now time.Time) error {
	return s.update(ctx, func(tx *Tx) error {
		c, err := scanToChange(ctx, tx, f.ID)
		switch {
		case err != nil:
			return err
		case f.Attempt != 0 && (c.Request.Target.Agent != f.Agent || f.Attempt > c.Attempt):
			return scan.ErrNotFound
		case c.Status.Final():
			return finished(c)
		case f.Attempt != 0 && f.Attempt < c.Attempt && f.Status != scan.Completed:
			return scan.ErrStale
		case f.Retry != nil && c.Attempt < f.Retry.MaxAttempts:
			return s.retryLater(ctx, tx, c, f)
		case f.Retry != nil:
			f.Reason = fmt.Sprintf("%s; given up after %d attempts", f.Reason, c.Attempt)
		}
		return s.finish(ctx, tx, c, f, now)
	})
}

// retryLater queues an attempt of c, which is locked, again, to be made at a
// time.
func (s *Store) retryLater(ctx context.Context, tx *Tx, c scan.Scan, f scan.Finish) error {
	if err := s.requeue(ctx, tx, c, fmt.Sprintf("attempt %d could not be made: %s", c.Attempt, f.Reason), f.Retry.At.Add(f.Retry.QueueFor)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `UPDATE scans SET not_before = ? WHERE id = ?`, micros(f.Retry.At), c.ID)
	return err
}

// finish moves c, which is locked, to its final state, with all that follows
// from it.
func (s *Store) finish(ctx context.Context, tx *Tx, c scan.Scan, f scan.Finish, now time.Time) error {
	c.Status = f.Status
	findings, err := json.Marshal(f.Verdict.Findings)
	if err != nil {
		return err
	}
	n := f.Verdict.Counts
	done, total := c.Progress.Done, c.Progress.Total
	if f.Status == scan.Completed {
		total = n.Passed + n.Failed + n.Skipped + n.Error
		done = total
	}
	if _, err := tx.Exec(ctx, `
		UPDATE scans SET status = ?, outcome = ?, reason = ?, finished = ?, lease_expires = 0, callback_secret = '',
			done = ?, total = ?, passed = ?, failed = ?, skipped = ?, errors = ?, compliance = ?, findings = ?, result_digest = ?, result_size = ?,
			entry_method = ?, entry_reason = ?
		WHERE id = ?`,
		c.Status, f.Verdict.Outcome, f.Reason, micros(now),
		done, total, n.Passed, n.Failed, n.Skipped, n.Error, f.Verdict.Compliance, string(findings), f.ResultDigest, f.ResultSize,
		f.Verdict.Entry.Method, f.Verdict.Entry.Reason, c.ID); err != nil {
		return err
	}
	// A policy may have the name of a profile: then its outcome is what is told.
	if err := s.judgedByScan(ctx, tx, c, f, now); err != nil {
		return err
	}
	at := policy.Place{Agent: c.Request.Target.Agent, Namespace: c.Request.Target.Namespace}
	if err := s.enqueueOutcomes(ctx, tx, f.Outcomes, f.Sinks, at); err != nil {
		return err
	}
	// What was to be told and wasn't shows as a run that isn't complete.
	if c.Selector == nil && (len(f.Sinks) > 0 || f.Status == scan.Error) {
		run := alert.Emit{Run: string(c.ID), Source: "scan", Expected: 1, Done: true, Note: f.Reason}
		if err := recordRun(ctx, tx, run, len(f.Outcomes)); err != nil {
			return err
		}
	}
	if f.Status != scan.Completed && c.Selector == nil {
		o := fleet.Outcome{Subject: c.Request.Target.Subject(), Policy: c.Request.Policy(), Run: string(c.ID), Details: f.Reason, At: now}
		if err := s.enqueueOutcomes(ctx, tx, []fleet.Outcome{o}, s.allEnds, at); err != nil {
			return err
		}
	}
	if f.Status == scan.Completed && c.Selector == nil {
		if err := isLatest(ctx, tx, c, f.Verdict.Outcome, now); err != nil {
			return err
		}
	}
	changed(tx, c)
	cb := c.Request.Callback
	// What a selection has found tells for itself.
	if cb == nil || c.Selector != nil && f.Status == scan.Completed {
		return nil
	}
	return s.enqueueCallback(ctx, tx, alert.Callback{
		URL: cb.URL,
		Auth: alert.Auth{
			Type: alert.AuthType(cb.Type), Username: cb.Username,
			Token: string(cb.Token), Password: string(cb.Password), Secret: string(cb.Secret),
		},
		Scan: string(c.ID), Status: string(f.Status), Outcome: string(f.Verdict.Outcome),
		Reason: f.Reason, Counts: n, Finished: now,
	}, at)
}

// requeue has a lost attempt of c, which is locked, made again.
func (s *Store) requeue(ctx context.Context, tx *Tx, c scan.Scan, reason string, expires time.Time) error {
	c.Status = scan.Queued
	changed(tx, c)
	_, err := tx.Exec(ctx, `
		UPDATE scans SET status = 'queued', reason = ?, expires = ?, lease_expires = 0 WHERE id = ?`,
		reason, micros(expires), c.ID)
	return err
}

// ReleaseScans implements scan.Store.
func (s *Store) ReleaseScans(ctx context.Context, h scan.Holder, now time.Time) error {
	held := map[scan.ID]bool{}
	for _, id := range h.Holding {
		held[id] = true
	}
	const leased = `agent = ? AND status = 'running' AND lease_instance = ?`
	var count int
	err := s.view(ctx, func(tx *Tx) error {
		return tx.QueryRow(ctx, `SELECT COUNT(*) FROM scans WHERE `+leased, h.Agent, h.Instance).Scan(&count)
	})
	if err != nil || count == 0 {
		return err
	}
	return s.update(ctx, func(tx *Tx) error {
		scans, err := queryScans(ctx, tx, leased+` ORDER BY id`+tx.dialect.ForUpdate, h.Agent, h.Instance)
		if err != nil {
			return err
		}
		for _, c := range scans {
			if held[c.ID] {
				err = hold(ctx, tx, c, now.Add(h.LeaseFor))
			} else {
				reason := fmt.Sprintf("attempt %d was lost: agent %s doesn't hold it any more", c.Attempt, h.Agent)
				err = s.retry(ctx, tx, c, h.MaxAttempts, reason, h.QueueFor, now)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// hold extends the lease of a scan that its agent has, but not beyond the
// deadline: only a report of progress says that it still runs then, and not
// that its result waits in the spool.
func hold(ctx context.Context, tx *Tx, c scan.Scan, until time.Time) error {
	if until.After(c.Expires) {
		until = c.Expires
	}
	if !until.After(c.Lease.Expires) {
		return nil
	}
	_, err := tx.Exec(ctx, `UPDATE scans SET lease_expires = ? WHERE id = ?`, micros(until), c.ID)
	return err
}

// retry queues a lost attempt again or, after the last, gives the scan up.
func (s *Store) retry(ctx context.Context, tx *Tx, c scan.Scan, maxAttempts int, reason string, queueFor time.Duration, now time.Time) error {
	if c.Attempt >= maxAttempts {
		reason = fmt.Sprintf("%s; given up after %d attempts", reason, c.Attempt)
		return s.finish(ctx, tx, c, scan.Finish{Status: scan.Error, Reason: reason}, now)
	}
	return s.requeue(ctx, tx, c, reason, now.Add(queueFor))
}

// ExpireScans implements scan.Store.
func (s *Store) ExpireScans(ctx context.Context, maxAttempts int, queueFor time.Duration, now time.Time) (n int, err error) {
	const due = `status = 'running' AND (lease_expires <= ? OR expires <= ?) OR status = 'queued' AND expires <= ?`
	us := micros(now)
	var count int
	err = s.view(ctx, func(tx *Tx) error {
		return tx.QueryRow(ctx, `SELECT COUNT(*) FROM scans WHERE `+due, us, us, us).Scan(&count)
	})
	if err != nil || count == 0 {
		return 0, err
	}
	err = s.update(ctx, func(tx *Tx) error {
		scans, err := queryScans(ctx, tx, `(`+due+`) ORDER BY id`+tx.dialect.SkipLocked, us, us, us)
		if err != nil {
			return err
		}
		for _, c := range scans {
			if err := s.expire(ctx, tx, c, maxAttempts, queueFor, now); err != nil {
				return err
			}
		}
		n = len(scans)
		return nil
	})
	return n, err
}

func (s *Store) expire(ctx context.Context, tx *Tx, c scan.Scan, maxAttempts int, queueFor time.Duration, now time.Time) error {
	agent := c.Request.Target.Agent
	switch {
	case c.Status == scan.Queued:
		reason := fmt.Sprintf("agent %s did not take the scan in time", agent)
		if c.Reason != "" {
			reason = c.Reason + "; " + reason + " again"
		}
		return s.finish(ctx, tx, c, scan.Finish{Status: scan.Error, Reason: reason}, now)
	case !c.Lease.Expires.After(now):
		reason := fmt.Sprintf("attempt %d was lost: agent %s stopped reporting", c.Attempt, agent)
		return s.retry(ctx, tx, c, maxAttempts, reason, queueFor, now)
	default:
		reason := fmt.Sprintf("timed out: agent %s did not end the run within %v", agent, c.Request.Timeout)
		return s.finish(ctx, tx, c, scan.Finish{Status: scan.Error, Reason: reason}, now)
	}
}

// MayReadProfile implements scan.Store.
func (s *Store) MayReadProfile(ctx context.Context, agent fleet.AgentName, digest string) (ok bool, err error) {
	var n int
	err = s.view(ctx, func(tx *Tx) error {
		return tx.QueryRow(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM scans WHERE profile_digest = ? AND agent = ? LIMIT 1) AS found`,
			digest, agent).Scan(&n)
	})
	return n > 0, err
}

// list is the placeholders for values, which it appends to args.
func list[T any](values []T, args *[]any) string {
	for _, v := range values {
		*args = append(*args, v)
	}
	return strings.TrimSuffix(strings.Repeat("?, ", len(values)), ", ")
}
