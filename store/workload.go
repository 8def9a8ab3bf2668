package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
)

const workloadColumns = `w.cluster, w.namespace, w.kind, w.name, w.container, w.digest, w.image, w.service, w.pods, w.labels, w.first_seen`

func scanWorkload(rows *sql.Rows, more ...any) (w insight.WorkloadRecord, err error) {
	var seen int64
	var labels string
	err = rows.Scan(append([]any{
		&w.Cluster, &w.Namespace, &w.Kind, &w.Name, &w.Container, &w.Digest, &w.Image, &w.Service, &w.Pods, &labels, &seen,
	}, more...)...)
	w.FirstSeen = fromMicros(seen)
	if err == nil && labels != "" {
		err = json.Unmarshal([]byte(labels), &w.Labels)
	}
	return w, err
}

// sbomOf is the SBOM of a workload w: that of its image, from w's own place or
// one whose SBOMs count everywhere, or, where none names the image, the current one
// of its service. Its arguments are added to args.
func (s *Store) sbomOf(args *[]any) string {
	everywhere, of := inScopes(s.sbomsFrom, "v.cluster", "v.namespace")
	*args = append(*args, of...)
	return `COALESCE(
	(SELECT MAX(d.digest) FROM insight_documents d WHERE d.kind = 'sbom' AND d.image = w.digest AND w.digest <> ''
		AND EXISTS (SELECT 1 FROM insight_inventory v WHERE v.document_id = d.id AND (v.cluster = w.cluster AND v.place IN (w.namespace,
			(SELECT e.project || '/' || e.environment FROM insight_environments e WHERE e.cluster = w.cluster AND e.namespace = w.namespace))
			OR ` + everywhere + `))),
	(SELECT MAX(d.digest) FROM insight_inventory v JOIN insight_documents d ON d.id = v.document_id
		WHERE w.service <> '' AND v.is_current = 1 AND v.kind = 'sbom' AND v.cluster = w.cluster AND v.place = w.namespace AND v.service = w.service
		AND d.image = ''),
	'')`
}

func workloads(q insight.Query) (f filter) {
	f.where = append(f.where, "w.absent = 0")
	equal(&f, "w.cluster", q.Cluster)
	equal(&f, "w.namespace", q.Namespace)
	equal(&f, "w.service", q.Service)
	f.within(q, "w.cluster", "w.namespace")
	if !q.Since.IsZero() {
		f.with("w.first_seen >= ?", micros(q.Since))
	}
	return f
}

// Workloads lists what runs; unknown leaves out what has an SBOM.
func (s *Store) Workloads(ctx context.Context, q insight.Query, unknown bool) (out []insight.WorkloadRecord, err error) {
	f := workloads(q)
	if unknown {
		f.where = append(f.where, s.sbomOf(&f.args)+" = ''")
	}
	var args []any
	sbomOf := s.sbomOf(&args)
	f.args = append(args, f.args...)
	err = s.rows(ctx, `SELECT `+workloadColumns+`, `+sbomOf+` FROM workloads w`, f,
		"w.cluster, w.namespace, w.kind, w.name, w.container, w.digest", q, func(rows *sql.Rows) error {
			var sbom insight.Digest
			w, err := scanWorkload(rows, &sbom)
			w.SBOM = sbom
			out = append(out, w)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list workloads: %w", err)
	}
	return out, nil
}

// Inventories lists how agents reported, by name.
func (s *Store) Inventories(ctx context.Context, q insight.Query) (out []insight.InventoryRecord, err error) {
	var f filter
	return s.inventories(ctx, q, `(SELECT COUNT(*) FROM workloads w WHERE w.cluster = r.cluster AND w.absent = 0 AND `+s.sbomOf(&f.args)+` = '')`, f)
}

func (s *Store) inventories(ctx context.Context, q insight.Query, unknown string, f filter) (out []insight.InventoryRecord, err error) {
	equal(&f, "r.cluster", q.Cluster)
	f.within(q, "r.cluster", "")
	err = s.rows(ctx, `
		SELECT r.cluster, r.reported, r.workloads, r.backlog_items, r.backlog_bytes, r.backlog_since, r.backlog_broker, `+unknown+`
		FROM workload_reports r`, f, "r.cluster", q, func(rows *sql.Rows) error {
		var r insight.InventoryRecord
		var reported, since int64
		err := rows.Scan(&r.Cluster, &reported, &r.Workloads, &r.Backlog.Items, &r.Backlog.Bytes, &since, &r.Backlog.Broker, &r.Unknown)
		r.Reported, r.Backlog.Since = fromMicros(reported), fromMicros(since)
		out = append(out, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list inventories: %w", err)
	}
	return out, nil
}

// Reports is Inventories without the count of workloads whose image has no SBOM,
// which takes time.
func (s *Store) Reports(ctx context.Context, q insight.Query) (out []insight.InventoryRecord, err error) {
	return s.inventories(ctx, q, `0`, filter{})
}

// WhoRuns lists where components run: those of q.Q, which is a purl with or
// without a version, a component's name or a vulnerability's identifier, that
// choose takes. A limit counts pairs of component and place.
func (s *Store) WhoRuns(ctx context.Context, q insight.Query, choose func(insight.Component) bool) (out []insight.RunRecord, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		components, err := componentsCalled(ctx, tx, q.Q)
		if err != nil {
			return err
		}
		components = slices.DeleteFunc(components, func(c storedComponent) bool { return !choose(c.Component) })
		slices.SortFunc(components, func(a, b storedComponent) int { return strings.Compare(a.key, b.key) })
		skip, limit := q.Offset, pageOf(q)
		var found []insight.RunRecord
		for part := range slices.Chunk(components, 64) {
			err := locate(ctx, tx, q, part, func(_ storedComponent, r insight.ComponentRecord) bool {
				if !r.Received.Before(q.Since) {
					if skip > 0 {
						skip--
					} else {
						found = append(found, insight.RunRecord{ComponentRecord: r})
					}
				}
				return len(found) < limit
			})
			if err != nil {
				return err
			}
			if len(found) == limit {
				break
			}
		}
		if out, err = withWorkloads(ctx, tx, found); err != nil || q.Offset > 0 || !q.Since.IsZero() {
			return err
		}
		elsewhere, err := runsElsewhere(ctx, tx, q, components, out, limit)
		out = append(out, elsewhere...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("who runs %q: %w", q.Q, err)
	}
	return out, nil
}

// componentsCalled finds the components that a person names.
func componentsCalled(ctx context.Context, tx *Tx, name string) ([]storedComponent, error) {
	if purl, ok := strings.CutPrefix(name, "pkg:"); ok {
		prefix := insight.PURLPrefix("pkg:" + purl)
		found, err := readComponents(ctx, tx, componentColumns+` WHERE key >= ? AND key < ?`, prefix, prefix+"\U0010FFFF")
		if err != nil {
			return nil, err
		}
		return slices.DeleteFunc(found, func(c storedComponent) bool {
			rest := strings.TrimPrefix(c.key, prefix)
			return rest != "" && !strings.ContainsAny(rest[:1], "@?#&")
		}), nil
	}
	found, err := readComponents(ctx, tx, componentColumns+` WHERE name_lower = ?`, strings.ToLower(name))
	if err != nil || len(found) > 0 {
		return found, err
	}
	ids, err := numbers(tx.Query(ctx, `SELECT DISTINCT f.component_id FROM osv_findings f JOIN osv_entries e ON e.id = f.entry WHERE `+identified, name, name, name))
	if err != nil {
		return nil, err
	}
	return componentsByID(ctx, tx, ids)
}

// withWorkloads gives each record the workloads that run there: those with the
// SBOM's image or, where that isn't said, of its service.
func withWorkloads(ctx context.Context, tx *Tx, found []insight.RunRecord) (out []insight.RunRecord, err error) {
	type place struct{ cluster, namespace string }
	byPlace := map[place][]insight.WorkloadRecord{}
	var places []place
	images := map[insight.Digest]string{}
	var digests []insight.Digest
	for _, r := range found {
		p := place{string(r.Cluster), r.Environment.Namespace}
		if _, known := byPlace[p]; !known && p.namespace != "" {
			byPlace[p] = nil
			places = append(places, p)
		}
		if _, known := images[r.Digest]; !known {
			images[r.Digest] = ""
			digests = append(digests, r.Digest)
		}
	}
	for part := range slices.Chunk(digests, batch) {
		var args []any
		rows, err := tx.Query(ctx, `SELECT digest, image FROM insight_documents WHERE digest IN (`+list(part, &args)+`)`, args...)
		if err != nil {
			return nil, err
		}
		err = eachRow(rows, func() error {
			var d insight.Digest
			var image string
			err := rows.Scan(&d, &image)
			images[d] = image
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	for part := range slices.Chunk(places, batch) {
		var args []any
		for _, p := range part {
			args = append(args, p.cluster, p.namespace)
		}
		rows, err := tx.Query(ctx, `SELECT `+workloadColumns+` FROM workloads w WHERE w.absent = 0 AND (w.cluster, w.namespace) IN (VALUES (?, ?)`+
			strings.Repeat(`, (?, ?)`, len(part)-1)+`) ORDER BY w.kind, w.name, w.container, w.digest`, args...)
		if err != nil {
			return nil, err
		}
		err = eachRow(rows, func() error {
			w, err := scanWorkload(rows)
			p := place{string(w.Cluster), w.Namespace}
			byPlace[p] = append(byPlace[p], w)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	for _, r := range found {
		image, any := images[r.Digest], false
		for _, w := range byPlace[place{string(r.Cluster), r.Environment.Namespace}] {
			if image == w.Digest && image != "" || image == "" && w.Service == r.Service {
				r.Workload, any = &w.Workload, true
				out = append(out, r)
			}
		}
		if !any {
			r.Workload = nil
			out = append(out, r)
		}
	}
	return out, nil
}

// runsElsewhere lists workloads, beside those that are known already, of
// images that SBOMs from other places, or earlier ones, are about.
func runsElsewhere(ctx context.Context, tx *Tx, q insight.Query, components []storedComponent, known []insight.RunRecord, limit int) (out []insight.RunRecord, err error) {
	f := workloads(q)
	f.where = append(f.where, "w.digest <> ''")
	type at struct {
		cluster fleet.AgentName
		workloadKey
		purl string
	}
	seen := map[at]bool{}
	for _, r := range known {
		if r.Workload != nil {
			seen[at{r.Cluster, keyOf(*r.Workload), r.Component.Key()}] = true
		}
	}
	ids := make([]int64, len(components))
	byID := map[int64]storedComponent{}
	for i, c := range components {
		ids[i], byID[c.id] = c.id, c
	}
	holding, err := holders(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	of := map[int64][]int64{}
	for _, id := range ids {
		for _, d := range holding[id] {
			of[d] = append(of[d], id)
		}
	}
	if len(of) == 0 {
		return nil, nil
	}
	read := func(f filter) error {
		rows, err := tx.Query(ctx, `
			SELECT `+workloadColumns+`, d.id, d.digest FROM workloads w JOIN insight_documents d ON d.image = w.digest AND d.kind = 'sbom'
			WHERE `+strings.Join(f.where, " AND ")+` ORDER BY w.cluster, w.namespace, w.kind, w.name, w.container, d.id`, f.args...)
		if err != nil {
			return err
		}
		return eachRow(rows, func() error {
			var document int64
			var digest insight.Digest
			w, err := scanWorkload(rows, &document, &digest)
			if err != nil {
				return err
			}
			for _, id := range of[document] {
				c := byID[id]
				key := at{w.Cluster, keyOf(w.Workload), c.Key()}
				if seen[key] || len(out) == limit {
					continue
				}
				seen[key] = true
				out = append(out, insight.RunRecord{
					ComponentRecord: insight.ComponentRecord{
						Component: c.Component, Cluster: w.Cluster, Environment: insight.Environment{Namespace: w.Namespace},
						Service: w.Service, Digest: digest, Received: w.FirstSeen,
					},
					Workload: &w.Workload, Elsewhere: true,
				})
			}
			return nil
		})
	}
	if len(of) > batch {
		return out, read(f) // all images that run are fewer than all documents
	}
	var args []any
	f.where = append(f.where, "d.id IN ("+list(slices.Collect(maps.Keys(of)), &args)+")")
	f.args = append(f.args, args...)
	return out, read(f)
}
