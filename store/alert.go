package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/policy"
)

var (
	_ alert.Store  = (*Store)(nil)
	_ alert.Outbox = (*Store)(nil)
)

const topicAlert = "alert"

// enqueueOutcomes puts each outcome, of a subject at a place, into the outbox of
// each sink, in order.
// It is called in the transaction that makes the outcomes true. An outcome
// that is there already changes nothing.
func (s *Store) enqueueOutcomes(ctx context.Context, tx *Tx, outcomes []fleet.Outcome, sinks []string, at policy.Place) error {
	for _, o := range outcomes {
		for _, sink := range sinks {
			if _, err := s.enqueue(ctx, tx, o, sink, at, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// enqueueCallback puts a scan's callback into the outbox, in the transaction
// that ends the scan.
func (s *Store) enqueueCallback(ctx context.Context, tx *Tx, c alert.Callback, at policy.Place) error {
	o := fleet.Outcome{
		Subject: fleet.Subject{Owner: "scan", Repo: c.Scan},
		Policy:  "callback",
		Run:     c.Scan,
		Pass:    c.Outcome == "passed",
		At:      c.Finished,
	}
	_, err := s.enqueue(ctx, tx, o, alert.CallbackSink, at, &c)
	return err
}

// enqueue reports whether the alert is new.
func (s *Store) enqueue(ctx context.Context, tx *Tx, o fleet.Outcome, sink string, at policy.Place, c *alert.Callback) (bool, error) {
	id := alert.NewID(o, sink)
	o, err := alert.Clean(o)
	if err != nil {
		return false, err
	}
	callback, secret, err := callbackRow(c)
	if err != nil {
		return false, err
	}
	switch err := tx.QueryRow(ctx, `SELECT id FROM alert WHERE id = ?`, id).Scan(new(string)); {
	case err == nil:
		return false, nil
	case !errors.Is(err, sql.ErrNoRows):
		return false, fmt.Errorf("enqueue alert: %w", err)
	}
	if err := s.backlog.take(ctx, tx, len(o.Details)); err != nil {
		return false, err
	}
	// The key's row is locked from here to the commit, so that the order of
	// the numbers is the order in which they become visible.
	now := micros(time.Now())
	key := alertKey(sink, o)
	var seq int64
	err = tx.QueryRow(ctx, `
		INSERT INTO alert_key (id, sink, owner, repo, policy, last_seq, next_at, pending, pending_bytes, oldest)
		VALUES (?, ?, ?, ?, ?, 1, ?, 1, ?, ?)
		ON CONFLICT (id) DO UPDATE SET
			last_seq = alert_key.last_seq + 1,
			next_at  = CASE WHEN alert_key.next_at > 0 THEN alert_key.next_at ELSE excluded.next_at END,
			oldest   = CASE WHEN alert_key.next_at > 0 THEN alert_key.oldest ELSE excluded.oldest END,
			pending  = alert_key.pending + 1, pending_bytes = alert_key.pending_bytes + excluded.pending_bytes
		RETURNING last_seq`,
		key, sink, o.Subject.Owner, o.Subject.Repo, o.Policy, now, len(o.Details), now).Scan(&seq)
	if err != nil {
		return false, fmt.Errorf("enqueue alert: %w", err)
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO alert (id, key_id, seq, run, pass, details, size, checked_at, callback, secret, created_at, since, agent, namespace)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		id, key, seq, o.Run, passOf(o), o.Details, len(o.Details), micros(o.At), callback, secret, now, now, at.Agent, at.Namespace)
	if err != nil {
		return false, fmt.Errorf("enqueue alert: %w", err)
	}
	tx.Notify(topicAlert)
	return true, nil
}

// gone is in the columns pass and told, beside 0 and 1, that the subject was.
const gone = 2

func passOf(o fleet.Outcome) int64 {
	if o.Gone {
		return gone
	}
	return bit(o.Pass)
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
	a.state, a.attempts, a.last_error, a.created_at, a.since, a.done_at, a.replayed,
	k.sink, k.owner, k.repo, k.policy, k.next_at, k.told, k.told_at, a.agent, a.namespace`

func scanAlert(row interface{ Scan(...any) error }, more ...any) (a alert.Alert, key string, err error) {
	var (
		pass, checked, created, since, done, replayed, next, told, toldAt int64
		callback                                                          sql.NullString
	)
	err = row.Scan(append([]any{
		&a.ID, &key, &a.Seq, &a.Outcome.Run, &pass, &a.Outcome.Details, &checked, &callback,
		&a.State, &a.Attempts, &a.LastError, &created, &since, &done, &replayed,
		&a.Sink, &a.Outcome.Subject.Owner, &a.Outcome.Subject.Repo, &a.Outcome.Policy, &next, &told, &toldAt, &a.Agent, &a.Namespace,
	}, more...)...)
	if err != nil {
		return a, "", err
	}
	a.Outcome.Pass, a.Outcome.Gone, a.Replayed = pass == 1, pass == gone, replayed != 0
	a.Outcome.At, a.Created, a.Since, a.Done = fromMicros(checked), fromMicros(created), fromMicros(since), fromMicros(done)
	a.Told = alert.Told{Pass: told == 1, Gone: told == gone, At: fromMicros(toldAt)}
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
		if ready, err := gathered(ctx, tx, r); err != nil || !ready.IsZero() {
			out.NextAt = ready
			return err
		}
		if _, err := tx.Exec(ctx, `
			UPDATE alert_key SET holder = ?, lease = ?, lease_until = ? WHERE id IN (
				SELECT id FROM alert_key
				WHERE sink = ? AND next_at > 0 AND next_at <= ? AND lease_until <= ?
				ORDER BY next_at, id LIMIT ?`+tx.dialect.SkipLocked+`)`,
			r.Holder, r.Token, micros(r.Until), r.Sink, now, now, limit); err != nil {
			return err
		}
		if r.Latest {
			if err := supersede(ctx, tx, r); err != nil {
				return err
			}
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

// gathered is the time when what is to be gathered for one message will have
// been; zero if there is nothing to wait for.
func gathered(ctx context.Context, tx *Tx, r alert.LeaseRequest) (ready time.Time, err error) {
	if r.Wait <= 0 {
		return time.Time{}, nil
	}
	var first sql.NullInt64
	err = tx.QueryRow(ctx, `SELECT MIN(next_at) FROM alert_key WHERE sink = ? AND next_at > 0 AND lease_until <= ?`, r.Sink, micros(r.Now)).Scan(&first)
	if ready = fromMicros(first.Int64).Add(r.Wait); err != nil || !first.Valid || !ready.After(r.Now) {
		return time.Time{}, err
	}
	return ready, nil
}

// supersede gives up what is pending of the keys just leased but the newest, and
// what a person asked for.
func supersede(ctx context.Context, tx *Tx, r alert.LeaseRequest) error {
	rows, err := tx.Query(ctx, `
		UPDATE alert SET state = 'skipped', last_error = 'a newer outcome took its place', done_at = ?
		WHERE state = 'pending' AND replayed = 0 AND key_id IN (SELECT id FROM alert_key WHERE lease = ? AND lease <> '')
		AND seq < (SELECT MAX(p.seq) FROM alert p WHERE p.key_id = alert.key_id AND p.state = 'pending')
		RETURNING key_id, size`,
		micros(r.Now), r.Token)
	if err != nil {
		return err
	}
	moved := tallies{}
	for rows.Next() {
		var key string
		var size int64
		if err := rows.Scan(&key, &size); err != nil {
			rows.Close()
			return err
		}
		moved.of(key).move(alert.Pending, alert.Skipped, size)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	return moved.apply(func(key string, t tally) error {
		_, err := tx.Exec(ctx, `UPDATE alert_key SET pending = pending + ?, pending_bytes = pending_bytes + ?, skipped = skipped + ? WHERE id = ?`,
			t.pending, t.bytes, t.skipped, key)
		return err
	})
}

// leasable says how many keys of the sink may be leased: none while it is
// paused, and one at a time from then on until one was delivered.
func leasable(ctx context.Context, tx *Tx, r alert.LeaseRequest) (limit int, resume time.Time, err error) {
	var until int64
	var heldBy string
	err = tx.QueryRow(ctx, `SELECT paused_until, held_by FROM alert_sink WHERE name = ?`+tx.dialect.ForUpdate, r.Sink).Scan(&until, &heldBy)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return r.Limit, time.Time{}, nil
	case err != nil || heldBy != "":
		return 0, time.Time{}, err
	case until == 0:
		return r.Limit, time.Time{}, nil
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
	var left, leftBytes int64
	err := s.update(ctx, func(tx *Tx) error {
		left, leftBytes = 0, 0
		sinks := map[string]alert.Settlement{} // the last that says how the sink is
		for _, d := range done {
			settled, size, err := settle(ctx, tx, now, d)
			if err != nil {
				return err
			}
			if settled && d.State != alert.Pending {
				left, leftBytes = left+1, leftBytes+size
			}
			if settled && (!d.PauseUntil.IsZero() || d.State == alert.Delivered) {
				sinks[d.Sink] = d
			}
		}
		for _, d := range sinks {
			if err := settleSink(ctx, tx, d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("settle alerts: %w", err)
	}
	s.backlog.leave(left, leftBytes)
	return nil
}

// settle reports whether the lease was still held, and the alert's size.
func settle(ctx context.Context, tx *Tx, now time.Time, d alert.Settlement) (held bool, size int64, err error) {
	var key string
	var pass int64
	err = tx.QueryRow(ctx, `
		SELECT k.id, a.pass, a.size FROM alert a JOIN alert_key k ON k.id = a.key_id
		WHERE a.id = ? AND k.lease = ? AND k.lease <> ''`+tx.dialect.ForUpdate, d.ID, d.Token).Scan(&key, &pass, &size)
	if errors.Is(err, sql.ErrNoRows) {
		return false, 0, nil // the lease ran out, and the key is another's
	}
	if err != nil {
		return false, 0, err
	}
	n, err := affected(tx.Exec(ctx, `
		UPDATE alert SET state = ?, attempts = attempts + ?, last_error = ?, done_at = ?,
			since = CASE WHEN CAST(? AS BIGINT) = 1 THEN CAST(? AS BIGINT) ELSE since END
		WHERE id = ? AND state = 'pending'`,
		d.State, bit(!d.Uncounted), d.Error, doneAt(d.State, now), bit(d.Held), micros(now), d.ID))
	if err != nil {
		return false, 0, err
	}
	if d.Sink == alert.CallbackSink {
		if err := eraseSecret(ctx, tx, d.ID); err != nil {
			return false, 0, err
		}
	}
	due := now
	var t tally
	if n > 0 {
		t.move(alert.Pending, d.State, size)
		if d.State == alert.Pending {
			due = d.RetryAt
		}
	}
	besides := `lease = '', lease_until = 0,`
	if d.State == alert.Delivered {
		besides += fmt.Sprintf(` told = %d, told_at = %d,`, pass, micros(now))
	}
	return true, size, setDue(ctx, tx, key, due, besides, t)
}

// settleSink pauses a sink, or ends its pause once it has taken something.
func settleSink(ctx context.Context, tx *Tx, d alert.Settlement) error {
	if d.PauseUntil.IsZero() {
		_, err := tx.Exec(ctx, `DELETE FROM alert_sink WHERE name = ? AND held_by = ''`, d.Sink)
		return err
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO alert_sink (name, paused_until, reason) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET paused_until = excluded.paused_until, reason = excluded.reason`,
		d.Sink, micros(d.PauseUntil), d.Reason)
	return err
}

func doneAt(st alert.State, now time.Time) int64 {
	if st == alert.Pending {
		return 0
	}
	return micros(now)
}

// setDue sets when the next pending alert of a key is due, if it has one, and
// adds t to what is counted of it.
func setDue(ctx context.Context, tx *Tx, key string, due time.Time, besides string, t tally) error {
	const waits = `EXISTS (SELECT 1 FROM alert p WHERE p.key_id = alert_key.id AND p.state = 'pending')`
	_, err := tx.Exec(ctx, `
		UPDATE alert_key SET `+besides+`
			next_at = CASE WHEN `+waits+` THEN CAST(? AS BIGINT) ELSE 0 END,
			pending = CASE WHEN `+waits+` THEN pending + ? ELSE 0 END,
			pending_bytes = CASE WHEN `+waits+` THEN pending_bytes + ? ELSE 0 END,
			oldest = COALESCE((SELECT p.since FROM alert p WHERE p.key_id = alert_key.id AND p.state = 'pending' ORDER BY p.seq LIMIT 1), 0),
			delivered = delivered + ?, skipped = skipped + ?, dead = dead + ?
		WHERE id = ?`, micros(due), t.pending, t.bytes, t.delivered, t.skipped, t.dead, key)
	return err
}

// tally is how many alerts of a key came into a state, or left it, and how many
// bytes of those that wait.
type tally struct{ pending, bytes, delivered, skipped, dead int64 }

// move notes that an alert went from one state to another; "" is none.
func (t *tally) move(from, to alert.State, size int64) {
	for _, m := range []struct {
		state alert.State
		n     int64
	}{{from, -1}, {to, 1}} {
		switch m.state {
		case alert.Pending:
			t.pending, t.bytes = t.pending+m.n, t.bytes+m.n*size
		case alert.Delivered:
			t.delivered += m.n
		case alert.Skipped:
			t.skipped += m.n
		case alert.Dead:
			t.dead += m.n
		}
	}
}

// tallies are those of several keys.
type tallies map[string]*tally

func (ts tallies) of(key string) *tally {
	if ts[key] == nil {
		ts[key] = &tally{}
	}
	return ts[key]
}

// apply has each recorded, always in the same order, so that two transactions
// don't wait for each other.
func (ts tallies) apply(record func(key string, t tally) error) error {
	for _, key := range slices.Sorted(maps.Keys(ts)) {
		if err := record(key, *ts[key]); err != nil {
			return err
		}
	}
	return nil
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
	switch f.State {
	case "":
	case alert.Dead:
		with("a.state = 'dead'") // as its index has it
	default:
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
	if cond, in := inScopes(f.Within, "a.agent", "a.namespace"); cond != "" {
		with("a.agent <> '' AND "+cond, in...)
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
		a, key, err := alertByID(ctx, tx, id, tx.dialect.ForUpdate)
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
		_, err = tx.Exec(ctx, `UPDATE alert SET state = 'pending', done_at = 0, since = ?, replayed = 1 WHERE id = ?`, micros(time.Now()), id)
		if err == nil {
			err = setDue(ctx, tx, key, time.Now(), "", moved(a, alert.Pending))
		}
		if err != nil {
			return fmt.Errorf("replay alert %q: %w", string(id), err)
		}
		tx.Notify(topicAlert)
		return nil
	})
}

// moved is the tally of one alert that comes into a state.
func moved(a alert.Alert, to alert.State) (t tally) {
	t.move(a.State, to, int64(len(a.Outcome.Details)))
	return t
}

// SkipAlert implements alert.Outbox.
func (s *Store) SkipAlert(ctx context.Context, id alert.ID) error {
	var left, leftBytes int64
	err := s.update(ctx, func(tx *Tx) error {
		left, leftBytes = 0, 0
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
			err = setDue(ctx, tx, key, time.Now(), "", moved(a, alert.Skipped))
		}
		if err != nil {
			return fmt.Errorf("skip alert %q: %w", string(id), err)
		}
		if a.State == alert.Pending {
			left, leftBytes = 1, int64(len(a.Outcome.Details))
		}
		tx.Notify(topicAlert)
		return nil
	})
	if err == nil {
		s.backlog.leave(left, leftBytes)
	}
	return err
}

// AlertSinks implements alert.Outbox.
func (s *Store) AlertSinks(ctx context.Context) ([]alert.SinkStatus, error) {
	counts, err := s.sinks.get(ctx, s.countSinks)
	if err != nil {
		return nil, fmt.Errorf("list sinks: %w", err)
	}
	out := slices.Clone(counts)
	err = s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `SELECT name, paused_until, reason, held_by FROM alert_sink`)
		if err != nil {
			return err
		}
		return eachRow(rows, func() error {
			var st alert.SinkStatus
			var paused int64
			err := rows.Scan(&st.Sink, &paused, &st.Reason, &st.HeldBy)
			st.PausedUntil = fromMicros(paused)
			out = append(out, st)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list sinks: %w", err)
	}
	slices.SortStableFunc(out, func(a, b alert.SinkStatus) int { return strings.Compare(a.Sink, b.Sink) })
	list := out[:0]
	for _, st := range out {
		if n := len(list); n > 0 && list[n-1].Sink == st.Sink { // its alerts and its pause
			list[n-1] = joined(list[n-1], st)
			continue
		}
		list = append(list, st)
	}
	return slices.Clip(list), nil
}

// countSinks sums up the keys of each sink.
func (s *Store) countSinks(ctx context.Context) (out []alert.SinkStatus, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		out = nil
		rows, err := tx.Query(ctx, `
			SELECT sink, CAST(SUM(pending) AS BIGINT), CAST(SUM(delivered) AS BIGINT), CAST(SUM(dead) AS BIGINT), CAST(SUM(skipped) AS BIGINT),
				MIN(CASE WHEN oldest > 0 THEN oldest END) FROM alert_key GROUP BY sink`)
		if err != nil {
			return err
		}
		return eachRow(rows, func() error {
			var st alert.SinkStatus
			var oldest sql.NullInt64
			err := rows.Scan(&st.Sink, &st.Pending, &st.Delivered, &st.Dead, &st.Skipped, &oldest)
			st.OldestPending = fromMicros(oldest.Int64)
			out = append(out, st)
			return err
		})
	})
	return out, err
}

// lasting is an answer that is asked for often and may be dear: one that took long
// holds for longer, and those who ask at the same time are given one.
type lasting[T any] struct {
	asking chan struct{} // holds a token while somebody asks
	answer T             // guarded by asking, and so is until
	until  time.Time
}

const (
	// cheap answers don't last, dear ones dearFor times as long as they took.
	cheap   = 50 * time.Millisecond
	dearFor = 20
)

func newLasting[T any]() lasting[T] { return lasting[T]{asking: make(chan struct{}, 1)} }

func (l *lasting[T]) get(ctx context.Context, ask func(context.Context) (T, error)) (answer T, err error) {
	select {
	case l.asking <- struct{}{}:
	case <-ctx.Done():
		return answer, context.Cause(ctx)
	}
	defer func() { <-l.asking }()
	began := time.Now()
	if began.Before(l.until) {
		return l.answer, nil
	}
	if answer, err = ask(ctx); err != nil {
		return answer, err
	}
	l.answer, l.until = answer, time.Time{}
	if took := time.Since(began); took > cheap {
		l.until = began.Add(took * (dearFor + 1))
	}
	return answer, nil
}

// joined is what two rows say of one sink.
func joined(a, b alert.SinkStatus) alert.SinkStatus {
	if a.OldestPending.IsZero() {
		a.OldestPending = b.OldestPending
	}
	a.Pending, a.Delivered, a.Dead, a.Skipped = a.Pending+b.Pending, a.Delivered+b.Delivered, a.Dead+b.Dead, a.Skipped+b.Skipped
	if b.Reason != "" || b.HeldBy != "" || !b.PausedUntil.IsZero() {
		a.PausedUntil, a.Reason, a.HeldBy = b.PausedUntil, b.Reason, b.HeldBy
	}
	return a
}

// HoldSink implements alert.Outbox.
func (s *Store) HoldSink(ctx context.Context, sink, by string) error {
	err := s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO alert_sink (name, paused_until, reason, held_by) VALUES (?, 0, '', ?)
			ON CONFLICT (name) DO UPDATE SET held_by = excluded.held_by`, sink, by)
		return err
	})
	if err != nil {
		return fmt.Errorf("pause sink %s: %w", sink, err)
	}
	return nil
}

// ResumeSink implements alert.Outbox.
func (s *Store) ResumeSink(ctx context.Context, sink string) error {
	err := s.update(ctx, func(tx *Tx) error {
		tx.Notify(topicAlert)
		_, err := tx.Exec(ctx, `DELETE FROM alert_sink WHERE name = ?`, sink)
		return err
	})
	if err != nil {
		return fmt.Errorf("resume sink %s: %w", sink, err)
	}
	return nil
}

// PendingSinks implements alert.Store.
func (s *Store) PendingSinks(ctx context.Context, prefix string, now time.Time, limit int) (names []string, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		names, err = texts(tx.Query(ctx, `
			SELECT sink FROM alert_key k
			WHERE SUBSTR(sink, 1, ?) = ? AND next_at > 0 AND next_at <= ? AND lease_until <= ?
			AND NOT EXISTS (SELECT 1 FROM alert_sink p WHERE p.name = k.sink AND (p.paused_until > ? OR p.held_by <> ''))
			GROUP BY sink ORDER BY MIN(next_at) LIMIT ?`, len(prefix), prefix, micros(now), micros(now), micros(now), limit))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list sinks of %s: %w", prefix, err)
	}
	return names, nil
}

// BuryAlerts implements alert.Store.
func (s *Store) BuryAlerts(ctx context.Context, before, now time.Time, reason string, limit int) (int, error) {
	var n int
	var bytes int64
	err := s.update(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT a.id, k.id, a.size FROM alert a JOIN alert_key k ON k.id = a.key_id
			WHERE a.state = 'pending' AND a.since < ? AND k.lease_until <= ?
			LIMIT ?`+tx.dialect.SkipLocked, micros(before), micros(now), limit)
		if err != nil {
			return err
		}
		var ids []alert.ID
		keys := tallies{}
		bytes = 0
		for rows.Next() {
			var id alert.ID
			var key string
			var size int64
			if err := rows.Scan(&id, &key, &size); err != nil {
				rows.Close()
				return err
			}
			ids, bytes = append(ids, id), bytes+size
			keys.of(key).move(alert.Pending, alert.Dead, size)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		for _, id := range ids {
			// What the last attempt said is worth more than that it's old.
			_, err := tx.Exec(ctx, `
				UPDATE alert SET state = 'dead', done_at = ?, secret = CASE WHEN secret IS NULL THEN NULL ELSE '' END,
					last_error = CASE WHEN last_error = '' THEN CAST(? AS TEXT) ELSE CAST(? AS TEXT) || ': ' || last_error END
				WHERE id = ?`, micros(now), reason, reason, id)
			if err != nil {
				return err
			}
		}
		if err := keys.apply(func(key string, t tally) error { return setDue(ctx, tx, key, now, "", t) }); err != nil {
			return err
		}
		n = len(ids)
		tx.Notify(topicAlert)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("give up old alerts: %w", err)
	}
	s.backlog.leave(int64(n), bytes)
	return n, nil
}

// AlertBacklogs implements alert.Store.
func (s *Store) AlertBacklogs(ctx context.Context) ([]alert.Backlog, error) {
	var out []alert.Backlog
	err := s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT sink, SUM(pending), SUM(dead), SUM(bytes), MIN(oldest), SUM(paused) FROM (
				SELECT sink, CAST(SUM(pending) AS BIGINT) AS pending, 0 AS dead, CAST(SUM(pending_bytes) AS BIGINT) AS bytes,
					MIN(CASE WHEN oldest > 0 THEN oldest END) AS oldest, 0 AS paused
				FROM alert_key WHERE next_at > 0 GROUP BY sink
				UNION ALL SELECT sink, 0, CAST(SUM(dead) AS BIGINT), 0, NULL, 0 FROM alert_key WHERE dead > 0 GROUP BY sink
				UNION ALL SELECT name, 0, 0, 0, NULL, 1 FROM alert_sink
			) AS counted GROUP BY sink ORDER BY sink`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var b alert.Backlog
			var oldest sql.NullInt64
			var paused int
			if err := rows.Scan(&b.Sink, &b.Pending, &b.Dead, &b.Bytes, &oldest, &paused); err != nil {
				return err
			}
			b.Oldest, b.Paused = fromMicros(oldest.Int64), paused > 0
			out = append(out, b)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("count what waits: %w", err)
	}
	return out, nil
}

// LimitAlerts bounds what may wait in the outbox; 0 is no limit. It is called
// before the store is used.
func (s *Store) LimitAlerts(alerts int, bytes int64) {
	s.backlog = &backlog{maxAlerts: int64(alerts), maxBytes: bytes}
}

// backlog knows about how much waits in the outbox, so that not each alert has
// to be counted: what it adds up may be more than there is, until it counts.
// Other replicas' alerts it sees then. nil has no limit.
type backlog struct {
	maxAlerts, maxBytes int64

	mu            sync.Mutex
	counted       time.Time // guarded by mu, as are the others
	alerts, bytes int64
	refused       uint64 // transactions
	// tx is the transaction that added last, and own and ownBytes what it did.
	tx            *Tx
	own, ownBytes int64
}

// An outbox that may be full is counted anew so often at most, and any other
// at least.
const (
	countFull  = time.Second
	countLeast = 30 * time.Second
)

// take makes room for an alert of so many bytes, or returns alert.ErrFull.
func (b *backlog) take(ctx context.Context, tx *Tx, size int) error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tx != tx {
		b.tx, b.own, b.ownBytes = tx, 0, 0
	}
	b.add(1, int64(size))
	if age := time.Since(b.counted); b.full() && age >= countFull || age >= countLeast {
		var alerts, bytes int64 // with what the transaction has added so far
		err := tx.QueryRow(ctx, `
			SELECT CAST(COALESCE(SUM(pending), 0) AS BIGINT), CAST(COALESCE(SUM(pending_bytes), 0) AS BIGINT) FROM alert_key WHERE next_at > 0`).Scan(&alerts, &bytes)
		if err != nil {
			return fmt.Errorf("count what waits: %w", err)
		}
		b.counted, b.alerts, b.bytes = time.Now(), alerts+1, bytes+int64(size)
	}
	if b.full() { // and the transaction is undone
		b.add(-b.own, -b.ownBytes)
		b.refused++
		return fmt.Errorf("%d alerts of %d bytes wait: %w", b.alerts, b.bytes, alert.ErrFull)
	}
	return nil
}

func (b *backlog) add(alerts, bytes int64) {
	b.alerts, b.bytes = b.alerts+alerts, b.bytes+bytes
	b.own, b.ownBytes = b.own+alerts, b.ownBytes+bytes
}

// leave is told of what waits no more.
func (b *backlog) leave(alerts, bytes int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alerts, b.bytes = b.alerts-alerts, b.bytes-bytes
}

// AlertRefusals is how often outcomes weren't recorded, since the store was
// opened, as the outbox was full.
func (s *Store) AlertRefusals() uint64 {
	if s.backlog == nil {
		return 0
	}
	s.backlog.mu.Lock()
	defer s.backlog.mu.Unlock()
	return s.backlog.refused
}

func (b *backlog) full() bool {
	return b.maxAlerts > 0 && b.alerts > b.maxAlerts || b.maxBytes > 0 && b.bytes > b.maxBytes
}
