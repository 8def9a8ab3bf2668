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

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
)

var _ insight.Store = (*Store)(nil)

// batch is how many rows one statement writes or names.
const batch = 400

// InsightReceived implements insight.Store.
func (s *Store) InsightReceived(ctx context.Context, cluster fleet.AgentName, item insight.ItemID) (bool, error) {
	var n int
	err := s.view(ctx, func(tx *Tx) error {
		return tx.QueryRow(ctx, `SELECT COUNT(*) FROM insight_receipts WHERE cluster = ? AND item = ?`, cluster, item).Scan(&n)
	})
	if err != nil {
		return false, fmt.Errorf("insight %s of %s: %w", item, cluster, err)
	}
	return n > 0, nil
}

// ApplyInsight implements insight.Store.
func (s *Store) ApplyInsight(ctx context.Context, it insight.Item, parsed *insight.Parsed, at time.Time) (fresh bool, err error) {
	if longest(it, parsed) > maxIndexed {
		return false, errLongName
	}
	var learned map[string]int64
	err = s.update(ctx, func(tx *Tx) error {
		// Several processes of an agent deliver at the same time.
		if err := tx.Lock(ctx, "insights of "+string(it.Cluster)); err != nil {
			return err
		}
		fresh, err = receipt(ctx, tx, it.Cluster, it.ID, at)
		if err != nil || !fresh {
			return err
		}
		if err := s.markInsight(ctx, tx, it, parsed); err != nil {
			return err
		}
		came := at
		if !it.Came.IsZero() {
			came = it.Came
		}
		switch c := it.Content.(type) {
		case insight.Facts:
			return tellFacts(ctx, tx, it, c, micros(came))
		case insight.Problems:
			return tellProblems(ctx, tx, it, c, micros(came))
		case insight.Deletion:
			return deleteInsights(ctx, tx, it, c, micros(came))
		case insight.Document:
			learned, err = s.addDocument(ctx, tx, it, c, parsed, came)
			return err
		}
		return fmt.Errorf("content %T is unknown", it.Content)
	})
	if err != nil {
		if s.dialect.TooLong != nil && s.dialect.TooLong(err) {
			return false, errLongName
		}
		return false, fmt.Errorf("insight %s of %s: %w", it.ID, it.Cluster, err)
	}
	if len(learned) > 0 {
		s.known.add(learned)
	}
	return fresh, nil
}

// maxIndexed is how many bytes the texts of one row's key may have. An index of
// PostgreSQL takes 2704, and what another database has may go there.
const maxIndexed = 2500

var errLongName = insight.Invalidf("a name in it is longer than the hub's database takes")

// longest is how many bytes the longest key of what an item says has.
func longest(it insight.Item, parsed *insight.Parsed) (most int) {
	env := it.Environment
	where := len(it.Cluster) + len(env.Namespace) + len(env.Project) + len(env.Name)
	key := func(of int, texts ...string) {
		for _, text := range texts {
			of += len(text)
		}
		most = max(most, of)
	}
	facts := func(list []insight.Fact) {
		for _, f := range list {
			key(where, f.Source, f.Service, f.Name)
		}
	}
	switch c := it.Content.(type) {
	case insight.Facts:
		facts(c)
	case insight.Problems:
		for _, p := range c {
			key(where, p.Source, p.Service, p.Identifier, p.AssociatedPackage, p.Version)
		}
	case insight.Deletion:
		key(where)
	case insight.Document:
		key(where, c.Service)
	}
	if parsed == nil {
		return most
	}
	facts(parsed.Facts)
	if parsed.SBOM != nil {
		for _, c := range parsed.SBOM.Components {
			key(0, c.Key())
			key(0, strings.ToLower(c.Name), c.Version)
		}
	}
	return most
}

// SameSBOM implements insight.Store.
func (s *Store) SameSBOM(ctx context.Context, cluster fleet.AgentName, content string) (digest insight.Digest, size int64, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		return tx.QueryRow(ctx, `
			SELECT d.digest, d.size FROM insight_documents d WHERE d.content = ? AND d.content <> ''
			AND EXISTS (SELECT 1 FROM insight_inventory v WHERE v.document_id = d.id AND v.cluster = ? AND v.scanned = 1)
			ORDER BY d.id LIMIT 1`, content, cluster).Scan(&digest, &size)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return "", 0, insight.ErrNotFound
	}
	if err != nil {
		return "", 0, fmt.Errorf("SBOM of %s: %w", cluster, err)
	}
	return digest, size, nil
}

// QuarantineInsight implements insight.Store.
func (s *Store) QuarantineInsight(ctx context.Context, q insight.QuarantineRecord) (fresh bool, err error) {
	err = s.update(ctx, func(tx *Tx) error {
		fresh, err = receipt(ctx, tx, q.Cluster, q.Item, q.Received)
		if err != nil || !fresh {
			return err
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO insight_quarantine (cluster, item, reason, digest, size, received)
			VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (cluster, item) DO UPDATE SET reason = excluded.reason`,
			q.Cluster, q.Item, q.Reason, q.Digest, q.Size, micros(q.Received))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("quarantine insight %s of %s: %w", q.Item, q.Cluster, err)
	}
	return fresh, nil
}

// QuarantinedItem implements insight.Store.
func (s *Store) QuarantinedItem(ctx context.Context, cluster fleet.AgentName, item insight.ItemID) (q insight.QuarantineRecord, err error) {
	var received int64
	err = s.view(ctx, func(tx *Tx) error {
		return tx.QueryRow(ctx, `SELECT cluster, item, reason, digest, size, received FROM insight_quarantine WHERE cluster = ? AND item = ?`, cluster, item).
			Scan(&q.Cluster, &q.Item, &q.Reason, &q.Digest, &q.Size, &received)
	})
	q.Received = fromMicros(received)
	if errors.Is(err, sql.ErrNoRows) {
		return q, insight.ErrNotFound
	}
	return q, err
}

// ForgetReceipt implements insight.Store.
func (s *Store) ForgetReceipt(ctx context.Context, cluster fleet.AgentName, item insight.ItemID) error {
	return s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM insight_receipts WHERE cluster = ? AND item = ?`, cluster, item)
		return err
	})
}

// Unquarantine implements insight.Store.
func (s *Store) Unquarantine(ctx context.Context, cluster fleet.AgentName, item insight.ItemID) error {
	var n int64
	err := s.update(ctx, func(tx *Tx) (err error) {
		n, err = affected(tx.Exec(ctx, `DELETE FROM insight_quarantine WHERE cluster = ? AND item = ?`, cluster, item))
		return err
	})
	if err == nil && n == 0 {
		err = insight.ErrNotFound
	}
	return err
}

func receipt(ctx context.Context, tx *Tx, cluster fleet.AgentName, item insight.ItemID, at time.Time) (fresh bool, err error) {
	n, err := affected(tx.Exec(ctx, `
		INSERT INTO insight_receipts (cluster, item, received) VALUES (?, ?, ?)
		ON CONFLICT (cluster, item) DO NOTHING`, cluster, item, micros(at)))
	return n > 0, err
}

// documentSummary is the column summary.
type documentSummary struct {
	SpecVersion    string `json:"specVersion,omitempty"`
	SerialNumber   string `json:"serialNumber,omitempty"`
	SubjectName    string `json:"subjectName,omitempty"`
	SubjectVersion string `json:"subjectVersion,omitempty"`
	// Ecosystems counts the components of each; the empty name is for those of
	// none. It is missing in documents of before it was noted.
	Ecosystems map[string]int `json:"ecosystems,omitempty"`

	Name         string            `json:"name,omitempty"`
	Digest       string            `json:"digest,omitempty"`
	Created      string            `json:"created,omitempty"`
	Architecture string            `json:"architecture,omitempty"`
	OS           string            `json:"os,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
}

func (s *Store) addDocument(ctx context.Context, tx *Tx, it insight.Item, doc insight.Document, parsed *insight.Parsed, at time.Time) (learned map[string]int64, err error) {
	id, learned, err := s.documentID(ctx, tx, doc.Kind, parsed, at)
	if err != nil {
		return nil, err
	}
	env, err := learnEnvironment(ctx, tx, it.Cluster, it.Environment)
	if err != nil {
		return nil, err
	}
	where := env.Place()
	// One that was in quarantine may come after later ones. Of others the order in
	// which they are taken counts, and not the clocks of who takes them.
	var later int
	if !it.Came.IsZero() {
		if err := tx.QueryRow(ctx, `
			SELECT COUNT(*) FROM insight_inventory
			WHERE cluster = ? AND place = ? AND service = ? AND kind = ? AND is_current = 1 AND received > ?`,
			it.Cluster, where, doc.Service, doc.Kind, micros(at)).Scan(&later); err != nil {
			return nil, err
		}
	}
	if later == 0 {
		if _, err := tx.Exec(ctx, `
			UPDATE insight_inventory SET is_current = 0
			WHERE cluster = ? AND place = ? AND service = ? AND kind = ? AND is_current = 1`,
			it.Cluster, where, doc.Service, doc.Kind); err != nil {
			return nil, err
		}
	}
	// It may be there: its receipt was forgotten, by time or by a hub that died
	// before it had taken the item out of quarantine.
	_, err = tx.Exec(ctx, `
		INSERT INTO insight_inventory (cluster, item, document_id, kind, place, namespace,
			project, environment, service, build, is_current, received, scanned)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (cluster, item) DO UPDATE SET document_id = excluded.document_id, kind = excluded.kind, place = excluded.place,
			namespace = excluded.namespace, project = excluded.project, environment = excluded.environment, service = excluded.service,
			build = excluded.build, is_current = excluded.is_current, received = excluded.received, scanned = excluded.scanned`,
		it.Cluster, it.ID, id, doc.Kind, where, env.Namespace,
		env.Project, env.Name, doc.Service, doc.Build, bit(later == 0), micros(at), bit(it.Scanned))
	if err != nil || later > 0 {
		return learned, err
	}
	if parsed.Export != nil {
		e := insight.Export{Destination: *parsed.Export, Cluster: it.Cluster, Environment: env, Service: doc.Service, Build: doc.Build, Digest: parsed.Digest}
		if err := queueExport(ctx, tx, e, false, micros(at)); err != nil {
			return learned, err
		}
	}
	return learned, deriveFacts(ctx, tx, it.Cluster, env, doc, parsed.Facts, micros(at))
}

// documentID gives the document's row, made with its components where this is
// the first time that it comes; learned is as addComponents has it.
func (s *Store) documentID(ctx context.Context, tx *Tx, kind insight.Kind, p *insight.Parsed, at time.Time) (id int64, learned map[string]int64, err error) {
	known := func() error {
		return tx.QueryRow(ctx, `SELECT id FROM insight_documents WHERE digest = ?`, p.Digest).Scan(&id)
	}
	if err := known(); !errors.Is(err, sql.ErrNoRows) {
		return id, nil, err
	}
	// New documents share components and the row of numbers: they come one
	// after the other.
	if err := tx.Lock(ctx, "documents"); err != nil {
		return 0, nil, err
	}
	if err := known(); !errors.Is(err, sql.ErrNoRows) {
		return id, nil, err
	}
	var sum documentSummary
	var components []insight.Component
	if b := p.SBOM; b != nil {
		components = b.Components
		sum = documentSummary{SpecVersion: b.SpecVersion, SerialNumber: b.SerialNumber, SubjectName: b.SubjectName, SubjectVersion: b.SubjectVersion, Ecosystems: ecosystems(b.Components)}
	}
	if i := p.Image; i != nil {
		sum = documentSummary{Name: i.Name, Digest: i.Digest, Created: i.Created, Architecture: i.Architecture, OS: i.OS, Labels: i.Labels}
	}
	text, err := json.Marshal(sum)
	if err != nil {
		return 0, nil, err
	}
	if id, err = nextID(ctx, tx, "insight_documents"); err != nil {
		return 0, nil, err
	}
	if _, err := tx.Exec(ctx, `
		INSERT INTO insight_documents (id, digest, kind, size, components, summary, image, content)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, id, p.Digest, kind, p.Size, len(components), string(text), p.ImageDigest(), p.Content); err != nil {
		return 0, nil, err
	}
	// A document without components has members, too: those of a segment are
	// all there.
	if len(p.Statements) > 0 {
		if err := putStatements(ctx, tx, p.Digest, p.Statements, at); err != nil {
			return 0, nil, err
		}
	}
	learned, err = s.addComponents(ctx, tx, id, components, micros(at))
	return id, learned, err
}

func ecosystems(components []insight.Component) map[string]int {
	out := map[string]int{}
	for _, c := range components {
		out[insight.EcosystemOf(c.PURL)]++
	}
	return out
}

// nextID is for who holds the lock "documents".
func nextID(ctx context.Context, tx *Tx, table string) (id int64, err error) {
	err = tx.QueryRow(ctx, `SELECT COALESCE(MAX(id), 0) + 1 FROM `+table).Scan(&id)
	return id, err
}

func insertMany(ctx context.Context, tx *Tx, into string, columns int, args []any) error {
	if len(args) == 0 {
		return nil
	}
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", columns), ", ") + ")"
	_, err := tx.Exec(ctx, into+strings.TrimSuffix(strings.Repeat(row+", ", len(args)/columns), ", "), args...)
	return err
}

// filter gathers the conditions of a query.
type filter struct {
	where []string
	args  []any
}

func (f *filter) with(cond string, arg any) {
	f.where = append(f.where, cond)
	f.args = append(f.args, arg)
}

// equal adds the condition that a column is value, unless that is zero.
func equal[T comparable](f *filter, column string, value T) {
	var zero T
	if value != zero {
		f.with(column+" = ?", value)
	}
}

// prefix adds the condition that a column begins with s.
func (f *filter) prefix(column, s string) {
	f.with(column+" >= ?", s)
	f.with(column+" < ?", s+"\U0010FFFF")
}

func (f *filter) within(q insight.Query, agent, namespace string) {
	if cond, args := inScopes(q.Within, agent, namespace); cond != "" {
		f.where, f.args = append(f.where, cond), append(f.args, args...)
	}
}

// pageOf is how many items a query is for.
func pageOf(q insight.Query) int {
	if q.Limit <= 0 {
		return 100
	}
	return min(q.Limit, 1000)
}

// rows runs a query with the conditions, the order and the page, and calls
// each for every row.
func (s *Store) rows(ctx context.Context, query string, f filter, order string, q insight.Query, each func(*sql.Rows) error) error {
	limit := pageOf(q)
	if len(f.where) > 0 {
		query += " WHERE " + strings.Join(f.where, " AND ")
	}
	query += " ORDER BY " + order + " LIMIT ? OFFSET ?"
	return s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, query, append(f.args, limit, q.Offset)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := each(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

func inventory(q insight.Query) (f filter) {
	equal(&f, "v.cluster", q.Cluster)
	equal(&f, "v.namespace", q.Namespace)
	equal(&f, "v.build", q.Build)
	if q.EnvironmentID != 0 {
		f.with("(v.cluster, v.namespace) IN (SELECT cluster, namespace FROM insight_environments WHERE environment_id = ?)", q.EnvironmentID)
	}
	equal(&f, "v.project", q.Project)
	equal(&f, "v.environment", q.Environment)
	equal(&f, "v.service", q.Service)
	f.within(q, "v.cluster", "v.namespace")
	return f
}

// standing adds the condition that a document stood at the time that is asked
// about: now, unless the query says a time or a build.
func (f *filter) standing(q insight.Query) {
	switch {
	case q.History, q.Build != "" && q.At.IsZero():
	case q.At.IsZero():
		f.with("v.is_current = ?", 1)
	default:
		f.with("v.received <= ?", micros(q.At))
		f.with(`NOT EXISTS (SELECT 1 FROM insight_inventory n WHERE n.cluster = v.cluster AND n.place = v.place
			AND n.service = v.service AND n.kind = v.kind AND n.received > v.received AND n.received <= ?)`, micros(q.At))
	}
}

// InsightDocuments lists SBOMs and image inspects, the latest first.
func (s *Store) InsightDocuments(ctx context.Context, q insight.Query) (out []insight.DocumentRecord, err error) {
	f := inventory(q)
	equal(&f, "v.kind", q.Kind)
	equal(&f, "d.digest", q.Digest)
	f.standing(q)
	err = s.rows(ctx, documentColumns+`,
			CASE WHEN v.is_current = 1 THEN 0 ELSE COALESCE((SELECT MIN(n.received) FROM insight_inventory n WHERE n.cluster = v.cluster
				AND n.place = v.place AND n.service = v.service AND n.kind = v.kind AND n.received > v.received), 0) END
		FROM insight_inventory v JOIN insight_documents d ON d.id = v.document_id`,
		f, "v.received DESC, v.cluster, v.item", q, func(r *sql.Rows) error {
			var until int64
			d, err := scanDocument(r, &until)
			d.Until = fromMicros(until)
			out = append(out, d)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list insight documents: %w", err)
	}
	return out, nil
}

// environmentOf is the number of the environment of v.
const environmentOf = `COALESCE((SELECT e.environment_id FROM insight_environments e WHERE e.cluster = v.cluster AND e.namespace = v.namespace), 0)`

const documentColumns = `
	SELECT v.item, v.cluster, ` + environmentOf + `, v.namespace, v.project, v.environment, v.kind, v.service, v.build,
		v.is_current, v.received, d.digest, d.size, d.components, d.summary`

func scanDocument(r *sql.Rows, more ...any) (d insight.DocumentRecord, err error) {
	var received int64
	var summary string
	var sum documentSummary
	if err := r.Scan(append([]any{
		&d.Item, &d.Cluster, &d.Environment.ID, &d.Environment.Namespace, &d.Environment.Project, &d.Environment.Name,
		&d.Kind, &d.Service, &d.Build, &d.Current, &received, &d.Digest, &d.Size, &d.Components, &summary,
	}, more...)...); err != nil {
		return d, err
	}
	d.Received = fromMicros(received)
	if err := json.Unmarshal([]byte(summary), &sum); err != nil {
		return d, fmt.Errorf("summary of %s: %w", d.Digest, err)
	}
	if d.Kind == insight.KindSBOM {
		d.SBOM = &insight.SBOM{SpecVersion: sum.SpecVersion, SerialNumber: sum.SerialNumber, SubjectName: sum.SubjectName, SubjectVersion: sum.SubjectVersion}
	} else {
		d.Image = &insight.ImageInspect{Name: sum.Name, Digest: sum.Digest, Created: sum.Created, Architecture: sum.Architecture, OS: sum.OS, Labels: sum.Labels}
	}
	return d, nil
}

// InsightDocument reads an SBOM or image inspect; insight.ErrNotFound where
// the digest names none. The caller closes it.
func (s *Store) InsightDocument(ctx context.Context, digest string) (io.ReadCloser, error) {
	var n int
	err := s.view(ctx, func(tx *Tx) error {
		return tx.QueryRow(ctx, `SELECT COUNT(*) FROM insight_documents WHERE digest = ?`, digest).Scan(&n)
	})
	if err != nil {
		return nil, fmt.Errorf("insight document: %w", err)
	}
	if n == 0 {
		return nil, insight.ErrNotFound
	}
	return s.Document(digest)
}

// Quarantined lists the messages that couldn't be taken, the latest first.
func (s *Store) Quarantined(ctx context.Context, q insight.Query) (out []insight.QuarantineRecord, err error) {
	var f filter
	equal(&f, "cluster", q.Cluster)
	f.within(q, "cluster", "")
	err = s.rows(ctx, `SELECT cluster, item, reason, digest, size, received FROM insight_quarantine`,
		f, "received DESC, cluster, item", q, func(r *sql.Rows) error {
			var rec insight.QuarantineRecord
			var received int64
			err := r.Scan(&rec.Cluster, &rec.Item, &rec.Reason, &rec.Digest, &rec.Size, &received)
			rec.Received = fromMicros(received)
			out = append(out, rec)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list quarantined insights: %w", err)
	}
	return out, nil
}
