package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/policy"
)

// Evidence is what policies judge.
func (s *Store) Evidence() policy.Evidence { return evidence{s} }

type evidence struct{ *Store }

// Agents implements policy.Evidence.
func (e evidence) Agents(ctx context.Context) (out []fleet.AgentName, err error) {
	err = e.list(ctx, `
		SELECT cluster FROM workloads UNION SELECT cluster FROM insight_inventory WHERE is_current = 1
		UNION SELECT cluster FROM insight_facts UNION SELECT cluster FROM insight_problems`, filter{}, ` ORDER BY 1`, nil, func(rows *sql.Rows) error {
		var a fleet.AgentName
		err := rows.Scan(&a)
		out = append(out, a)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("agents that policies are about: %w", err)
	}
	return out, nil
}

// Subjects implements policy.Evidence.
func (e evidence) Subjects(ctx context.Context, p policy.Place, need policy.Need) (out []policy.Subject, err error) {
	err = e.view(ctx, func(tx *Tx) error {
		g := &gathering{tx: tx, place: p, need: need, sbomsFrom: e.sbomsFrom, services: map[serviceKey]*service{}, environments: map[string]string{}}
		for _, step := range []func(context.Context) error{g.readEnvironments, g.readDocuments, g.readTold, g.readFacts, g.readWorkloads} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		out = g.subjects()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("subjects of policies in %s: %w", p.Agent, err)
	}
	return out, nil
}

// serviceKey names a service of an environment; its name is empty for what is
// about the whole of that.
type serviceKey struct{ place, name string }

// service is what was sent of one.
type service struct {
	image policy.Image // with the SBOM, and when the image was made
	// sbomOf and madeOf are the images that those are of, where they say it.
	sbomOf, madeOf string
	madeAt         time.Time // when that was received
	told           []policy.Problem
	facts          []policy.Fact
	used           bool // by a workload
}

// buildTime is how long an image may take from its SBOM to its first run.
const buildTime = time.Hour

// fits reports whether a service's SBOM or inspect is of an image that runs. One
// of an image by another digest is of what ran before, unless it came with this
// one: an index of images has another digest than the image that runs.
func fits(of string, received time.Time, i policy.Image) bool {
	return of == "" || i.Digest == "" || of == i.Digest || i.FirstSeen.IsZero() || !received.Before(i.FirstSeen.Add(-buildTime))
}

// gathering is what is known of a place.
type gathering struct {
	tx           *Tx
	sbomsFrom    []fleet.Scope
	place        policy.Place
	need         policy.Need
	environments map[string]string // PROJECT/NAME by namespace
	services     map[serviceKey]*service
	workloads    []policy.Subject
	of           []string // Lagoon's service of each workload
	// databases are the ecosystems of which there are vulnerabilities; nil before
	// they are read.
	databases map[string]bool
}

func (g *gathering) service(place, name string) *service {
	key := serviceKey{place, name}
	v, known := g.services[key]
	if !known {
		v = &service{}
		g.services[key] = v
	}
	return v
}

// within is the condition of the place, by the columns of cluster and namespace.
func (g *gathering) within(cluster, namespace string) (f filter) {
	f.with(cluster+" = ?", g.place.Agent)
	equal(&f, namespace, g.place.Namespace)
	return f
}

// told is the condition of the place for what may be known by its environment
// alone, whose namespace nobody has told.
func (g *gathering) told() filter {
	f := g.within("cluster", "namespace")
	project, name, known := strings.Cut(g.environments[g.place.Namespace], "/")
	if g.place.Namespace != "" && known {
		f = filter{}
		f.with("cluster = ?", g.place.Agent)
		f.where = append(f.where, "(namespace = ? OR namespace = '' AND project = ? AND environment = ?)")
		f.args = append(f.args, g.place.Namespace, project, name)
	}
	return f
}

func (g *gathering) read(ctx context.Context, query string, f filter, order string, row func(*sql.Rows) error) error {
	rows, err := g.tx.Query(ctx, query+` WHERE `+strings.Join(f.where, " AND ")+order, f.args...)
	if err != nil {
		return err
	}
	return eachRow(rows, func() error { return row(rows) })
}

func (g *gathering) readEnvironments(ctx context.Context) error {
	return g.read(ctx, `SELECT namespace, project, environment FROM insight_environments`, g.within("cluster", "namespace"), "", func(rows *sql.Rows) error {
		var namespace, project, name string
		err := rows.Scan(&namespace, &project, &name)
		if project != "" {
			g.environments[namespace] = project + "/" + name
		}
		return err
	})
}

// at is where something is, by what is said of that.
func at(namespace, project, environment string) string {
	return insight.Environment{Namespace: namespace, Project: project, Name: environment}.Place()
}

func (g *gathering) readTold(ctx context.Context) error {
	if !g.need.Problems {
		return nil
	}
	return g.read(ctx, `
		SELECT namespace, project, environment, service, source, identifier, version, fixed_version, severity, severity_score, associated_package, since
		FROM insight_problems`, g.told(), "", func(rows *sql.Rows) error {
		var namespace, project, environment, name string
		var p policy.Problem
		var score float64
		var since int64
		err := rows.Scan(&namespace, &project, &environment, &name, &p.Source, &p.Identifier, &p.Version, &p.Fixed, &p.Severity, &score, &p.Package, &since)
		p.Severity, p.Since = severity(p.Severity, 10*score), fromMicros(since)
		v := g.service(at(namespace, project, environment), name)
		v.told = append(v.told, p)
		return err
	})
}

func (g *gathering) readFacts(ctx context.Context) error {
	if !g.need.Facts {
		return nil
	}
	return g.read(ctx, `SELECT namespace, project, environment, service, source, name, value FROM insight_facts`, g.told(),
		` ORDER BY source, name`, func(rows *sql.Rows) error {
			var namespace, project, environment, name string
			var f policy.Fact
			err := rows.Scan(&namespace, &project, &environment, &name, &f.Source, &f.Name, &f.Value)
			v := g.service(at(namespace, project, environment), name)
			v.facts = append(v.facts, f)
			return err
		})
}

// document is an SBOM or an image inspect.
type document struct {
	id       int64
	kind     insight.Kind
	digest   string
	image    string // empty where it doesn't say it
	received int64
	made     time.Time
	// ecosystems are those of an SBOM's components; nil where that wasn't noted.
	ecosystems map[string]int
}

const policyDocument = `d.id, d.kind, d.digest, d.image, d.summary`

func scanPolicyDocument(rows *sql.Rows, more ...any) (d document, err error) {
	var summary string
	if err = rows.Scan(append([]any{&d.id, &d.kind, &d.digest, &d.image, &summary}, more...)...); err != nil {
		return d, err
	}
	var sum documentSummary
	if err := json.Unmarshal([]byte(summary), &sum); err != nil {
		return d, fmt.Errorf("summary of %s: %w", d.digest, err)
	}
	d.made, _ = time.Parse(time.RFC3339Nano, sum.Created) // what can't be read isn't known
	d.ecosystems = sum.Ecosystems
	return d, nil
}

// readDocuments reads those that services sent last.
func (g *gathering) readDocuments(ctx context.Context) error {
	if !g.need.SBOMs && !g.need.Images {
		return nil
	}
	f := g.documents()
	f.with("v.is_current = ?", 1)
	var sboms []document
	owners := map[int64][]*service{}
	err := g.read(ctx, `SELECT `+policyDocument+`, v.place, v.service, v.received FROM insight_inventory v JOIN insight_documents d ON d.id = v.document_id`,
		f, "", func(rows *sql.Rows) error {
			var place, name string
			var received int64
			d, err := scanPolicyDocument(rows, &place, &name, &received)
			d.received = received
			v := g.service(place, name)
			switch d.kind {
			case insight.KindImage:
				v.image.Made, v.madeOf, v.madeAt = d.made, d.image, fromMicros(received)
			case insight.KindSBOM:
				v.sbomOf = d.image
				sboms, owners[d.id] = append(sboms, d), append(owners[d.id], v)
			}
			return err
		})
	if err != nil {
		return err
	}
	read, err := g.readSBOMs(ctx, sboms)
	for id, sbom := range read {
		for _, v := range owners[id] {
			v.image.SBOM = sbom
		}
	}
	return err
}

// trust is how far one is believed who tells of an image.
type trust int

// Who may: somebody of the subject's own namespace or environment, its agent,
// which has looked itself, and whom the operator believes (SBOMsFrom).
const (
	ofPlace trust = iota
	ofAgent
	ofTrusted
)

// testimony is what somebody tells of an image.
type testimony struct {
	document
	cluster          fleet.AgentName
	namespace, place string
	trust            trust
}

// byImage finds what is told of images in g's place, and by those who are
// believed everywhere, the oldest first.
func (g *gathering) byImage(ctx context.Context, digests []string) (map[string][]testimony, error) {
	out := map[string][]testimony{}
	for part := range slices.Chunk(digests, batch) {
		var f filter
		f.where = []string{`d.image IN (` + list(part, &f.args) + `)`}
		from := g.documents()
		trusted, in := inScopes(g.sbomsFrom, "v.cluster", "v.namespace")
		f.where = append(f.where, `(`+strings.Join(from.where, " AND ")+` OR `+trusted+`)`)
		f.args = append(append(f.args, from.args...), in...)
		err := g.read(ctx, `SELECT `+policyDocument+`, v.cluster, v.namespace, v.place, v.scanned, MAX(v.received)
			FROM insight_documents d JOIN insight_inventory v ON v.document_id = d.id`, f,
			` GROUP BY d.id, v.cluster, v.namespace, v.place, v.scanned ORDER BY MAX(v.received), d.id`, func(rows *sql.Rows) error {
				var c testimony
				var itself, received int64
				var err error
				c.document, err = scanPolicyDocument(rows, &c.cluster, &c.namespace, &c.place, &itself, &received)
				c.received = received
				switch {
				case slices.ContainsFunc(g.sbomsFrom, func(s fleet.Scope) bool { return s.Has(c.cluster, c.namespace) }):
					c.trust = ofTrusted
				case itself != 0:
					c.trust = ofAgent
				}
				out[c.image] = append(out[c.image], c)
				return err
			})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// documents is the condition of the place for SBOMs and inspects.
func (g *gathering) documents() filter {
	f := g.within("v.cluster", "v.place")
	if environment := g.environments[g.place.Namespace]; g.place.Namespace != "" && environment != "" {
		f = filter{}
		f.with("v.cluster = ?", g.place.Agent)
		f.where, f.args = append(f.where, "v.place IN (?, ?)"), append(f.args, g.place.Namespace, environment)
	}
	return f
}

// believed are those of told, the oldest first, that count for a namespace:
// nothing that another tenant says does, and an earlier one only while nobody who
// is believed as far has said anything since.
func (g *gathering) believed(told []testimony, kind insight.Kind, namespace string) (out []testimony) {
	for _, c := range slices.Backward(told) {
		own := c.cluster == g.place.Agent && (c.place == namespace || c.place == g.environments[namespace])
		if c.kind == kind && (own || c.trust == ofTrusted) && (len(out) == 0 || c.trust > out[len(out)-1].trust) {
			out = append(out, c)
		}
	}
	return out
}

// whole is an SBOM with all that was found in several of one image, of which the
// first came last.
func whole(told []testimony, read map[int64]*policy.SBOM) *policy.SBOM {
	if len(told) == 0 {
		return nil
	}
	out := *read[told[0].id]
	out.Received, out.Unjudged = fromMicros(told[0].received), maps.Clone(out.Unjudged)
	for _, c := range told[1:] {
		more := read[c.id]
		out.Problems = append(slices.Clip(out.Problems), more.Problems...)
		out.Empty = out.Empty && more.Empty
		for name, n := range more.Unjudged {
			out.Unjudged[name] = max(out.Unjudged[name], n)
		}
		out.Foreign = max(out.Foreign, more.Foreign)
	}
	if len(told) > 1 {
		gravestFirst(out.Problems)
		out.Problems = slices.Compact(out.Problems)
	}
	return &out
}

// readSBOMs reads SBOMs with the problems that were found in them, by their
// numbers.
func (g *gathering) readSBOMs(ctx context.Context, documents []document) (map[int64]*policy.SBOM, error) {
	out := map[int64]*policy.SBOM{}
	if len(documents) == 0 {
		return out, nil
	}
	var ids []int64
	for _, d := range documents {
		if out[d.id] == nil {
			ids = append(ids, d.id)
		}
		out[d.id] = &policy.SBOM{Digest: d.digest, Received: fromMicros(d.received)}
	}
	if !g.need.Problems {
		return out, nil
	}
	if g.databases == nil {
		names, err := texts(g.tx.Query(ctx, `SELECT name FROM osv_ecosystems`))
		if err != nil {
			return nil, err
		}
		g.databases = map[string]bool{}
		for _, name := range names {
			g.databases[insight.CanonicalEcosystem(name)] = true
		}
	}
	if len(g.databases) == 0 {
		return out, nil
	}
	if err := g.findUnjudged(ctx, documents, out); err != nil {
		return nil, err
	}
	slices.Sort(ids)
	for part := range slices.Chunk(ids, batch) {
		if err := g.findProblems(ctx, part, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// findUnjudged counts components that could not be judged.
func (g *gathering) findUnjudged(ctx context.Context, documents []document, sboms map[int64]*policy.SBOM) error {
	counted := map[int64]bool{}
	for _, d := range documents {
		of := sboms[d.id]
		if counted[d.id] {
			continue
		}
		counted[d.id] = true
		if d.ecosystems == nil {
			ids, err := members(ctx, g.tx, []int64{d.id})
			if err != nil {
				return err
			}
			stored, err := componentsByID(ctx, g.tx, ids)
			if err != nil {
				return err
			}
			components := make([]insight.Component, len(stored))
			for i, c := range stored {
				components[i] = c.Component
			}
			d.ecosystems = ecosystems(components)
		}
		of.Unjudged, of.Foreign = maps.Clone(d.ecosystems), d.ecosystems[""]
		maps.DeleteFunc(of.Unjudged, func(name string, _ int) bool { return name == "" || g.databases[name] })
	}
	return nil
}

func (g *gathering) findProblems(ctx context.Context, documents []int64, sboms map[int64]*policy.SBOM) error {
	all, err := members(ctx, g.tx, documents)
	if err != nil {
		return err
	}
	findings := map[int64][]foundProblem{}
	for part := range slices.Chunk(all, batch) {
		var args []any
		found, err := readFindings(ctx, g.tx, ` WHERE f.component_id IN (`+list(part, &args)+`)`, args...)
		if err != nil {
			return err
		}
		for id, list := range found {
			findings[id] = list
		}
	}
	var having []int64
	for id := range findings {
		having = append(having, id)
	}
	components := map[int64]insight.Component{}
	stored, err := componentsByID(ctx, g.tx, having)
	if err != nil {
		return err
	}
	for _, c := range stored {
		components[c.id] = c.Component
	}
	told, err := readSaid(ctx, g.tx, findings)
	if err == nil && told != nil {
		err = told.readProducts(ctx, g.tx, documents)
	}
	if err != nil {
		return err
	}
	for _, id := range documents {
		sboms[id].Matched, sboms[id].Empty = true, true
	}
	var args []any
	err = eachMember(ctx, g.tx, ` WHERE document_id IN (`+list(documents, &args)+`)`, args, func(document, component int64) {
		sboms[document].Empty = false
		for _, f := range findings[component] {
			said := told.on(document, f)
			c := components[component]
			sboms[document].Problems = append(sboms[document].Problems, policy.Problem{
				Identifier: cmp.Or(f.cve, f.entry), Source: insight.SourceOSV, Package: c.Name, Version: c.Version, Fixed: f.fixed,
				Severity: severity(f.severity, f.score), Since: fromMicros(f.found), Cleared: said != nil && said.Status.Clears(),
			})
		}
	})
	for _, id := range documents {
		gravestFirst(sboms[id].Problems)
	}
	return err
}

var severityOrder = []string{"critical", "high", "medium", "low"}

// severity is that of a problem in the words of policies; empty where neither
// the name nor the score, of at most 10, says it.
func severity(name string, score float64) string {
	name = strings.ToLower(name)
	switch {
	case slices.Contains(severityOrder, name):
		return name
	case name == "moderate" || name == "important":
		return map[string]string{"moderate": "medium", "important": "high"}[name]
	case slices.Contains([]string{"negligible", "none", "info", "informational"}, name):
		return "low"
	case score >= 9:
		return "critical"
	case score >= 7:
		return "high"
	case score >= 4:
		return "medium"
	case score > 0:
		return "low"
	}
	return ""
}

func gravestFirst(list []policy.Problem) {
	rank := func(p policy.Problem) int {
		if i := slices.Index(severityOrder, p.Severity); i >= 0 {
			return i
		}
		return len(severityOrder)
	}
	slices.SortStableFunc(list, func(a, b policy.Problem) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Identifier, b.Identifier), cmp.Compare(a.Package, b.Package), cmp.Compare(a.Version, b.Version))
	})
}

func (g *gathering) readWorkloads(ctx context.Context) error {
	var digests []string
	seen := map[string]bool{}
	err := g.read(ctx, `SELECT namespace, kind, name, container, digest, image, service, labels, first_seen FROM workloads`, g.within("cluster", "namespace"),
		` ORDER BY namespace, kind, name, container, digest`, func(rows *sql.Rows) error {
			s := policy.Subject{Agent: g.place.Agent}
			var i policy.Image
			var service, labels string
			var first int64
			if err := rows.Scan(&s.Namespace, &s.Kind, &s.Name, &s.Container, &i.Digest, &i.Name, &service, &labels, &first); err != nil {
				return err
			}
			i.FirstSeen = fromMicros(first)
			if i.Digest != "" && !seen[i.Digest] {
				seen[i.Digest] = true
				digests = append(digests, i.Digest)
			}
			if n := len(g.workloads); n > 0 && g.workloads[n-1].Compare(&s) == 0 {
				g.workloads[n-1].Images = append(g.workloads[n-1].Images, i)
				return nil
			}
			if labels != "" {
				if err := json.Unmarshal([]byte(labels), &s.Labels); err != nil {
					return fmt.Errorf("labels of %s/%s: %w", s.Namespace, s.Name, err)
				}
			}
			s.Images, s.Environment = []policy.Image{i}, g.environments[s.Namespace]
			g.workloads, g.of = append(g.workloads, s), append(g.of, service)
			return nil
		})
	if err != nil || !g.need.SBOMs && !g.need.Images {
		return err
	}
	told, err := g.byImage(ctx, digests)
	if err != nil {
		return err
	}
	var documents []document
	each := func(do func(image *policy.Image, sboms, inspects []testimony)) {
		for i := range g.workloads {
			w := &g.workloads[i]
			for j := range w.Images {
				of := told[w.Images[j].Digest]
				do(&w.Images[j], g.believed(of, insight.KindSBOM, w.Namespace), g.believed(of, insight.KindImage, w.Namespace))
			}
		}
	}
	each(func(_ *policy.Image, sboms, _ []testimony) {
		for _, c := range sboms {
			documents = append(documents, c.document)
		}
	})
	read, err := g.readSBOMs(ctx, documents)
	if err != nil {
		return err
	}
	each(func(image *policy.Image, sboms, inspects []testimony) {
		image.SBOM = whole(sboms, read)
		if n := len(inspects); n > 0 {
			image.Made = inspects[n-1].made // by him who is believed most
		}
	})
	return nil
}

// subjects joins workloads and services.
func (g *gathering) subjects() []policy.Subject {
	peopled := map[string]bool{}
	for i := range g.workloads {
		s := &g.workloads[i]
		peopled[s.Namespace] = true
		places := []string{s.Namespace}
		if s.Environment != "" {
			places = append(places, s.Environment)
		}
		for _, place := range places {
			for _, name := range slices.Compact([]string{"", g.of[i], s.Name, s.Name + "/" + s.Container}) {
				v, known := g.services[serviceKey{place, name}]
				if !known {
					continue
				}
				v.used = true
				s.Told, s.Facts = append(s.Told, v.told...), append(s.Facts, v.facts...)
				for j := range s.Images {
					image := &s.Images[j]
					if sbom := v.image.SBOM; sbom != nil && image.SBOM == nil && fits(v.sbomOf, sbom.Received, *image) {
						image.SBOM = sbom
					}
					if image.Made.IsZero() && fits(v.madeOf, v.madeAt, *image) {
						image.Made = v.image.Made
					}
				}
			}
		}
		gravestFirst(s.Told)
	}
	out := g.workloads
	for key, v := range g.services {
		if v.used || key.name == "" && peopled[key.place] {
			continue
		}
		s := policy.Subject{
			Agent: g.place.Agent, Namespace: key.place, Name: cmp.Or(key.name, "environment"), Environment: cmp.Or(g.environments[key.place], key.place),
			Images: []policy.Image{v.image}, Told: v.told, Facts: v.facts,
		}
		gravestFirst(s.Told)
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b policy.Subject) int { return a.Compare(&b) })
	return out
}
