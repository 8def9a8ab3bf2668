package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
)

var (
	_ alert.Store  = (*Store)(nil)
	_ alert.Outbox = (*Store)(nil)
)

const topicAlert = "alert"

// enqueueOutcomes puts each outcome into the outbox of each sink, in order.
// It is called in the transaction that makes the outcomes true. An outcome
// that is there already changes nothing.
func (s *Store) enqueueOutcomes(ctx context.Context, tx *Tx, outcomes []fleet.Outcome, sinks []string) error {
	for _, o := range outcomes {
		for _, sink := range sinks {
			if err := s.enqueue(ctx, tx, o, sink, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// enqueueCallback puts a scan's callback into the outbox, in the transaction
// that ends the scan.
func (s *Store) enqueueCallback(ctx context.Context, tx *Tx, c alert.Callback) error {
	o := fleet.Outcome{
		Subject: fleet.Subject{Owner: "scan", Repo: c.Scan},
		Policy:  "callback",
		Run:     c.Scan,
		Pass:    c.Outcome == "passed",
		At:      c.Finished,
	}
	return s.enqueue(ctx, tx, o, alert.CallbackSink, &c)
}

func (s *Store) enqueue(ctx context.Context, tx *Tx, o fleet.Outcome, sink string, c *alert.Callback) error {
	id := alert.NewID(o, sink)
	o, err := alert.Clean(o)
	if err != nil {
		return err
	}
	callback, secret, err := callbackRow(c)
	if err != nil {
		return err
	}
	switch err := tx.QueryRow(ctx, `SELECT id FROM alert WHERE id = ?`, id).Scan(new(string)); {
	case err == nil:
		return nil
	case !errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("enqueue alert: %w", err)
	}
	// The key's row is locked from here to the commit, so that the order of
	// the numbers is the order in which they become visible.
	now := micros(time.Now())
	key := alertKey(sink, o)
	var seq int64
	err = tx.QueryRow(ctx, `
		INSERT INTO alert_key (id, sink, owner, repo, policy, last_seq, next_at)
		VALUES (?, ?, ?, ?, ?, 1, ?)
		ON CONFLICT (id) DO UPDATE SET
			last_seq = alert_key.last_seq + 1,
			next_at  = CASE WHEN alert_key.next_at > 0 THEN alert_key.next_at ELSE excluded.next_at END
		RETURNING last_seq`,
		key, sink, o.Subject.Owner, o.Subject.Repo, o.Policy, now).Scan(&seq)
	if err != nil {
		return fmt.Errorf("enqueue alert: %w", err)
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO alert (id, key_id, seq, run, pass, details, checked_at, callback, secret, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		id, key, seq, o.Run, bit(o.Pass), o.Details, micros(o.At), callback, secret, now)
	if err != nil {
		return fmt.Errorf("enqueue alert: %w", err)
	}
	tx.Notify(topicAlert)
	return nil
}

// alertKey names the stream of alerts that keep their order.
func alertKey(sink string, o fleet.Outcome) string {
	// The separator is in none of the parts: Clean took it out.
	h := sha256.Sum256([]byte(strings.Join([]string{sink, o.Subject.Owner, o.Subject.Repo, o.Policy}, "\x00")))
	return hex.EncodeToString(h[:16])
}

// storedCallback and storedSecret are a callback's columns; the credential
// is apart so that it can be erased.
type storedCallback struct {
	URL      string         `json:"url"`
	AuthType alert.AuthType `json:"authType"`
	Scan     string         `json:"scan"`
	Status   string         `json:"status"`
	Outcome  string         `json:"outcome,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	Counts   hdf.Counts     `json:"counts"`
	Finished int64          `json:"finished"`
}

type storedSecret struct {
	Token    string `json:"token,omitempty"`
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	Secret   string `json:"secret,omitempty"`
}

func callbackRow(c *alert.Callback) (callback, secret sql.NullString, err error) {
	if c == nil {
		return callback, secret, nil
	}
	row, err := json.Marshal(storedCallback{
		URL: c.URL, AuthType: c.Auth.Type, Scan: c.Scan, Status: c.Status, Outcome: c.Outcome,
		Reason: c.Reason, Counts: c.Counts, Finished: micros(c.Finished),
	})
	if err != nil {
		return callback, secret, fmt.Errorf("enqueue callback: %w", err)
	}
	callback = sql.NullString{String: string(row), Valid: true}
	if c.Auth.Type == alert.Bearer || c.Auth.Type == alert.Basic || c.Auth.Secret != "" {
		row, err := json.Marshal(storedSecret{Token: c.Auth.Token, Username: c.Auth.Username, Password: c.Auth.Password, Secret: c.Auth.Secret})
		if err != nil {
			return callback, secret, fmt.Errorf("enqueue callback: %w", err)
		}
		secret = sql.NullString{String: string(row), Valid: true}
	}
	return callback, secret, nil
}

func callbackOf(callback, secret sql.NullString) (*alert.Callback, error) {
	if !callback.Valid {
		return nil, nil
	}
	var row storedCallback
	if err := json.Unmarshal([]byte(callback.String), &row); err != nil {
		return nil, fmt.Errorf("callback: %w", err)
	}
	var auth storedSecret
	if secret.String != "" {
		if err := json.Unmarshal([]byte(secret.String), &auth); err != nil {
			return nil, errors.New("callback: its credential is damaged")
		}
	}
	return &alert.Callback{
		URL:  row.URL,
		Auth: alert.Auth{Type: row.AuthType, Token: auth.Token, Username: auth.Username, Password: auth.Password, Secret: auth.Secret},
		Scan: row.Scan, Status: row.Status, Outcome: row.Outcome, Reason: row.Reason,
		Counts: row.Counts, Finished: fromMicros(row.Finished),
	}, nil
}

// alertColumns are what scanAlert reads; from alert a and its alert_key k.
const alertColumns = `a.id, a.key_id, a.seq, a.run, a.pass, a.details, a.checked_at, a.callback,
	a.state, a.attempts, a.last_error, a.created_at, a.done_at,
	k.sink, k.owner, k.repo, k.policy, k.next_at`

func scanAlert(row interface{ Scan(...any) error }, more ...any) (a alert.Alert, key string, err error) {
	var (
		pass, checked, created, done, next int64
		callback                           sql.NullString
	)
	err = row.Scan(append([]any{
		&a.ID, &key, &a.Seq, &a.Outcome.Run, &pass, &a.Outcome.Details, &checked, &callback,
		&a.State, &a.Attempts, &a.LastError, &created, &done,
		&a.Sink, &a.Outcome.Subject.Owner, &a.Outcome.Subject.Repo, &a.Outcome.Policy, &next,
	}, more...)...)
	if err != nil {
		return a, "", err
	}
	a.Outcome.Pass = pass != 0
	a.Outcome.At, a.Created, a.Done = fromMicros(checked), fromMicros(created), fromMicros(done)
	if a.State == alert.Pending {
		a.NextAt = fromMicros(next)
	}
	a.Callback, err = callbackOf(callback, sql.NullString{})
	return a, key, err
}

// LeaseAlerts implements alert.Store.
func (s *Store) LeaseAlerts(ctx context.Context, r alert.LeaseRequest) (alert.Leased, error) {
	var out alert.Leased
	err := s.update(ctx, func(tx *Tx) error {
		out = alert.Leased{}
		limit, resume, err := leasable(ctx, tx, r)
		if err != nil || limit == 0 {
			out.NextAt = resume
			return err
		}
		now := micros(r.Now)
		if _, err := tx.Exec(ctx, `
			UPDATE alert_key SET holder = ?, lease = ?, lease_until = ? WHERE id IN (
				SELECT id FROM alert_key
				WHERE sink = ? AND next_at > 0 AND next_at <= ? AND lease_until <= ?
				ORDER BY next_at, id LIMIT ?`+tx.dialect.SkipLocked+`)`,
			r.Holder, r.Token, micros(r.Until), r.Sink, now, now, limit); err != nil {
			return err
		}
		if out.Alerts, err = leased(ctx, tx, r.Token); err != nil {
			return err
		}
		var next sql.NullInt64
		err = tx.QueryRow(ctx, `SELECT MIN(next_at) FROM alert_key WHERE sink = ? AND next_at > 0 AND next_at > ?`,
			r.Sink, now).Scan(&next)
		out.NextAt = fromMicros(next.Int64)
		return err
	})
	if err != nil {
		return alert.Leased{}, fmt.Errorf("lease alerts: %w", err)
	}
	return out, nil
}

// leasable says how many keys of the sink may be leased: none while it is
// paused, and one at a time from then on until one was delivered.
func leasable(ctx context.Context, tx *Tx, r alert.LeaseRequest) (limit int, resume time.Time, err error) {
	var until int64
	err = tx.QueryRow(ctx, `SELECT paused_until FROM alert_sink WHERE name = ?`+tx.dialect.ForUpdate, r.Sink).Scan(&until)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return r.Limit, time.Time{}, nil
	case err != nil:
		return 0, time.Time{}, err
	case until > micros(r.Now):
		return 0, fromMicros(until), nil
	}
	var probing int
	err = tx.QueryRow(ctx, `SELECT COUNT(*) FROM alert_key WHERE sink = ? AND next_at > 0 AND lease_until > ?`,
		r.Sink, micros(r.Now)).Scan(&probing)
	if err != nil || probing > 0 {
		return 0, time.Time{}, err
	}
	return 1, time.Time{}, nil
}

func leased(ctx context.Context, tx *Tx, token string) ([]alert.Alert, error) {
	rows, err := tx.Query(ctx, `
		SELECT `+alertColumns+`, a.secret FROM alert_key k JOIN alert a ON a.key_id = k.id
		WHERE k.lease = ? AND k.lease <> '' AND a.seq = (
			SELECT MIN(p.seq) FROM alert p WHERE p.key_id = k.id AND p.state = 'pending')
		ORDER BY k.next_at, k.id`, token)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []alert.Alert
	for rows.Next() {
		var secret sql.NullString
		a, _, err := scanAlert(rows, &secret)
		if err != nil {
			return nil, err
		}
		if a.Callback != nil && secret.String != "" {
			var auth storedSecret
			if err := json.Unmarshal([]byte(secret.String), &auth); err != nil {
				return nil, errors.New("a callback's credential is damaged")
			}
			a.Callback.Auth.Token, a.Callback.Auth.Username, a.Callback.Auth.Password, a.Callback.Auth.Secret = auth.Token, auth.Username, auth.Password, auth.Secret
		}
		out = append(out, a)
	}
	return out, rows.Err()
}

// SettleAlerts implements alert.Store.
func (s *Store) SettleAlerts(ctx context.Context, now time.Time, done []alert.Settlement) error {
	err := s.update(ctx, func(tx *Tx) error {
		for _, d := range done {
			if err := settle(ctx, tx, now, d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("settle alerts: %w", err)
	}
	return nil
}

func settle(ctx context.Context, tx *Tx, now time.Time, d alert.Settlement) error {
	var key string
	err := tx.QueryRow(ctx, `
		SELECT k.id FROM alert a JOIN alert_key k ON k.id = a.key_id
		WHERE a.id = ? AND k.lease = ? AND k.lease <> ''`+tx.dialect.ForUpdate, d.ID, d.Token).Scan(&key)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // the lease ran out, and the key is another's
	}
	if err != nil {
		return err
	}
	n, err := affected(tx.Exec(ctx, `
		UPDATE alert SET state = ?, attempts = attempts + ?, last_error = ?, done_at = ?
		WHERE id = ? AND state = 'pending'`,
		d.State, bit(!d.Uncounted), d.Error, doneAt(d.State, now), d.ID))
	if err != nil {
		return err
	}
	if err := eraseSecret(ctx, tx, d.ID); err != nil {
		return err
	}
	due := now
	if n > 0 && d.State == alert.Pending {
		due = d.RetryAt
	}
	if err := setDue(ctx, tx, key, due, `lease = '', lease_until = 0,`); err != nil {
		return err
	}
	switch {
	case !d.PauseUntil.IsZero():
		_, err = tx.Exec(ctx, `
			INSERT INTO alert_sink (name, paused_until, reason) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET paused_until = excluded.paused_until, reason = excluded.reason`,
			d.Sink, micros(d.PauseUntil), d.Error)
	case d.State == alert.Delivered:
		_, err = tx.Exec(ctx, `DELETE FROM alert_sink WHERE name = ?`, d.Sink)
	}
	return err
}

func doneAt(st alert.State, now time.Time) int64 {
	if st == alert.Pending {
		return 0
	}
	return micros(now)
}

// setDue sets when the oldest pending alert of a key is due, if it has one.
func setDue(ctx context.Context, tx *Tx, key string, due time.Time, besides string) error {
	_, err := tx.Exec(ctx, `
		UPDATE alert_key SET `+besides+` next_at = CASE WHEN EXISTS (
			SELECT 1 FROM alert p WHERE p.key_id = alert_key.id AND p.state = 'pending') THEN CAST(? AS BIGINT) ELSE 0 END
		WHERE id = ?`, micros(due), key)
	return err
}

func eraseSecret(ctx context.Context, tx *Tx, id alert.ID) error {
	_, err := tx.Exec(ctx, `UPDATE alert SET secret = '' WHERE id = ? AND state <> 'pending' AND secret <> ''`, id)
	return err
}

// ReleaseAlerts implements alert.Store.
func (s *Store) ReleaseAlerts(ctx context.Context, holder string) error {
	err := s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `UPDATE alert_key SET lease = '', lease_until = 0 WHERE holder = ? AND lease <> ''`, holder)
		return err
	})
	if err != nil {
		return fmt.Errorf("release leases of alerts: %w", err)
	}
	return nil
}

// AlertsDue implements alert.Store.
func (s *Store) AlertsDue() <-chan struct{} { return s.wait(topicAlert) }

// Alert implements alert.Outbox.
func (s *Store) Alert(ctx context.Context, id alert.ID) (alert.Alert, error) {
	var a alert.Alert
	err := s.view(ctx, func(tx *Tx) (err error) {
		a, _, err = alertByID(ctx, tx, id, "")
		return err
	})
	return a, err
}

// alertByID ends its query with lock.
func alertByID(ctx context.Context, tx *Tx, id alert.ID, lock string) (a alert.Alert, key string, err error) {
	a, key, err = scanAlert(tx.QueryRow(ctx, `
		SELECT `+alertColumns+` FROM alert a JOIN alert_key k ON k.id = a.key_id WHERE a.id = ?`+lock, id))
	if errors.Is(err, sql.ErrNoRows) {
		return a, "", fmt.Errorf("alert %q: %w", string(id), alert.ErrNotFound)
	}
	if err != nil {
		return a, "", fmt.Errorf("alert %q: %w", string(id), err)
	}
	return a, key, nil
}

// Alerts implements alert.Outbox.
func (s *Store) Alerts(ctx context.Context, f alert.Filter) ([]alert.Alert, error) {
	where, args := []string{"1 = 1"}, []any{}
	with := func(cond string, arg ...any) { where, args = append(where, cond), append(args, arg...) }
	if f.State != "" {
		with("a.state = ?", f.State)
	}
	if f.Sink != "" {
		with("k.sink = ?", f.Sink)
	}
	if f.Run != "" {
		with("a.run = ?", f.Run)
	}
	if f.Before != "" {
		with(`(a.created_at < (SELECT b.created_at FROM alert b WHERE b.id = ?)
			OR a.created_at = (SELECT b.created_at FROM alert b WHERE b.id = ?) AND a.id < ?)`, f.Before, f.Before, f.Before)
	}
	if cond, in := inScopes(f.Within, "s.agent", "s.namespace"); cond != "" {
		with("EXISTS (SELECT 1 FROM scans s WHERE s.id = a.run AND "+cond+")", in...)
	}
	limit := min(f.Limit, 1000)
	if limit <= 0 {
		limit = 100
	}
	var out []alert.Alert
	err := s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT `+alertColumns+` FROM alert a JOIN alert_key k ON k.id = a.key_id
			WHERE `+strings.Join(where, " AND ")+`
			ORDER BY a.created_at DESC, a.id DESC LIMIT ?`, append(args, limit)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			a, _, err := scanAlert(rows)
			if err != nil {
				return err
			}
			out = append(out, a)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list alerts: %w", err)
	}
	return out, nil
}

// ReplayAlert implements alert.Outbox.
func (s *Store) ReplayAlert(ctx context.Context, id alert.ID) error {
	return s.update(ctx, func(tx *Tx) error {
		_, key, err := alertByID(ctx, tx, id, tx.dialect.ForUpdate)
		if err != nil {
			return err
		}
		var lost int
		err = tx.QueryRow(ctx, `SELECT COUNT(*) FROM alert WHERE id = ? AND secret = ''`, id).Scan(&lost)
		if err != nil {
			return fmt.Errorf("replay alert %q: %w", string(id), err)
		}
		if lost > 0 {
			return fmt.Errorf("replay alert %q: %w", string(id), alert.ErrSecretErased)
		}
		_, err = tx.Exec(ctx, `UPDATE alert SET state = 'pending', done_at = 0 WHERE id = ?`, id)
		if err == nil {
			err = setDue(ctx, tx, key, time.Now(), "")
		}
		if err != nil {
			return fmt.Errorf("replay alert %q: %w", string(id), err)
		}
		tx.Notify(topicAlert)
		return nil
	})
}

// SkipAlert implements alert.Outbox.
func (s *Store) SkipAlert(ctx context.Context, id alert.ID) error {
	return s.update(ctx, func(tx *Tx) error {
		a, key, err := alertByID(ctx, tx, id, tx.dialect.ForUpdate)
		if err != nil {
			return err
		}
		if a.State == alert.Delivered {
			return fmt.Errorf("skip alert %q: %w", string(id), alert.ErrDelivered)
		}
		_, err = tx.Exec(ctx, `UPDATE alert SET state = 'skipped', done_at = ? WHERE id = ?`, micros(time.Now()), id)
		if err == nil {
			err = eraseSecret(ctx, tx, id)
		}
		if err == nil {
			err = setDue(ctx, tx, key, time.Now(), "")
		}
		if err != nil {
			return fmt.Errorf("skip alert %q: %w", string(id), err)
		}
		tx.Notify(topicAlert)
		return nil
	})
}

// AlertSinks implements alert.Outbox.
func (s *Store) AlertSinks(ctx context.Context) ([]alert.SinkStatus, error) {
	var out []alert.SinkStatus
	err := s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT k.sink,
				SUM(CASE WHEN a.state = 'pending'   THEN 1 ELSE 0 END),
				SUM(CASE WHEN a.state = 'delivered' THEN 1 ELSE 0 END),
				SUM(CASE WHEN a.state = 'dead'      THEN 1 ELSE 0 END),
				SUM(CASE WHEN a.state = 'skipped'   THEN 1 ELSE 0 END),
				MIN(CASE WHEN a.state = 'pending'   THEN a.created_at END),
				MAX(COALESCE(p.paused_until, 0)), MAX(COALESCE(p.reason, ''))
			FROM alert_key k JOIN alert a ON a.key_id = k.id LEFT JOIN alert_sink p ON p.name = k.sink
			GROUP BY k.sink ORDER BY k.sink`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var (
				st             alert.SinkStatus
				oldest, paused sql.NullInt64
			)
			if err := rows.Scan(&st.Sink, &st.Pending, &st.Delivered, &st.Dead, &st.Skipped, &oldest, &paused, &st.Reason); err != nil {
				return err
			}
			st.OldestPending, st.PausedUntil = fromMicros(oldest.Int64), fromMicros(paused.Int64)
			out = append(out, st)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list sinks: %w", err)
	}
	return out, nil
}
