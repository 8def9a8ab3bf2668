package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"reeve.dev/reeve/insight"
)

// segmentSize is how many documents one segment of the index has: the most
// whose members a search has to read one by one.
const segmentSize = 256

// packIDs writes ascending numbers as the columns members and documents have
// them.
func packIDs(ids []int64) []byte {
	out := make([]byte, 0, 2*len(ids))
	last := int64(0)
	for _, id := range ids {
		out = binary.AppendUvarint(out, uint64(id-last))
		last = id
	}
	return out
}

var errPacked = errors.New("packed numbers are damaged")

// unpackIDs calls each with what packIDs wrote.
func unpackIDs(b []byte, each func(int64)) error {
	last := int64(0)
	for len(b) > 0 {
		d, n := binary.Uvarint(b)
		if n <= 0 {
			return errPacked
		}
		b = b[n:]
		last += int64(d)
		each(last)
	}
	return nil
}

// addMembers joins components to a new document, and closes a segment where
// it is the last one of that. It is for who holds the lock "documents".
func addMembers(ctx context.Context, tx *Tx, document int64, members []int64) error {
	slices.Sort(members)
	if _, err := tx.Exec(ctx, `INSERT INTO insight_members (document_id, components) VALUES (?, ?)`, document, packIDs(members)); err != nil {
		return err
	}
	if document%segmentSize != 0 {
		return nil
	}
	return closeSegment(ctx, tx, document/segmentSize)
}

func closeSegment(ctx context.Context, tx *Tx, segment int64) error {
	documents := map[int64][]int64{}
	err := eachMember(ctx, tx, ` WHERE document_id > ? AND document_id <= ? ORDER BY document_id`,
		[]any{(segment - 1) * segmentSize, segment * segmentSize}, func(document, component int64) {
			documents[component] = append(documents[component], document)
		})
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO insight_segments (segment) VALUES (?)`, segment); err != nil {
		return err
	}
	components := make([]int64, 0, len(documents))
	for c := range documents {
		components = append(components, c)
	}
	slices.Sort(components)
	for part := range slices.Chunk(components, batch) {
		var args []any
		for _, c := range part {
			args = append(args, segment, c, packIDs(documents[c]))
		}
		if err := insertMany(ctx, tx, `INSERT INTO insight_postings (segment, component_id, documents) VALUES `, 3, args); err != nil {
			return err
		}
	}
	return nil
}

// eachMember calls each with the members of the documents that where chooses.
func eachMember(ctx context.Context, tx *Tx, where string, args []any, each func(document, component int64)) error {
	rows, err := tx.Query(ctx, `SELECT document_id, components FROM insight_members`+where, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var document int64
		var packed sql.RawBytes
		if err := rows.Scan(&document, &packed); err != nil {
			return err
		}
		if err := unpackIDs(packed, func(c int64) { each(document, c) }); err != nil {
			return fmt.Errorf("document %d: %w", document, err)
		}
	}
	return rows.Err()
}

// holders finds which documents have each of the components.
func holders(ctx context.Context, tx *Tx, components []int64) (map[int64][]int64, error) {
	out := make(map[int64][]int64, len(components))
	wanted := make(map[int64]bool, len(components))
	for _, c := range components {
		wanted[c] = true
	}
	for part := range slices.Chunk(components, batch) {
		var args []any
		if err := postings(ctx, tx, `component_id IN (`+list(part, &args)+`)`, args, out); err != nil {
			return nil, err
		}
	}
	var last int64
	if err := tx.QueryRow(ctx, `SELECT COALESCE(MAX(segment), 0) FROM insight_segments`).Scan(&last); err != nil {
		return nil, err
	}
	err := eachMember(ctx, tx, ` WHERE document_id > ? ORDER BY document_id`, []any{last * segmentSize}, func(document, component int64) {
		if wanted[component] {
			out[component] = append(out[component], document)
		}
	})
	return out, err
}

func postings(ctx context.Context, tx *Tx, where string, args []any, into map[int64][]int64) error {
	rows, err := tx.Query(ctx, `
		SELECT component_id, documents FROM insight_postings
		WHERE segment IN (SELECT segment FROM insight_segments) AND `+where, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var component int64
		var packed sql.RawBytes
		if err := rows.Scan(&component, &packed); err != nil {
			return err
		}
		if err := unpackIDs(packed, func(d int64) { into[component] = append(into[component], d) }); err != nil {
			return fmt.Errorf("component %d: %w", component, err)
		}
	}
	return rows.Err()
}

// members are the components of documents, ascending, each once.
func members(ctx context.Context, tx *Tx, documents []int64) ([]int64, error) {
	seen := map[int64]bool{}
	var out []int64
	for part := range slices.Chunk(documents, batch) {
		var args []any
		err := eachMember(ctx, tx, ` WHERE document_id IN (`+list(part, &args)+`)`, args, func(_, c int64) {
			if !seen[c] {
				seen[c] = true
				out = append(out, c)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(out)
	return out, nil
}

// storedComponent is a component's row.
type storedComponent struct {
	id  int64
	key string
	insight.Component
	pkg string
}

const componentColumns = `SELECT id, key, type, grp, name, version, package FROM insight_components`

func readComponents(ctx context.Context, tx *Tx, query string, args ...any) (out []storedComponent, err error) {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c storedComponent
		if err := rows.Scan(&c.id, &c.key, &c.Type, &c.Group, &c.Name, &c.Version, &c.pkg); err != nil {
			return nil, err
		}
		if strings.HasPrefix(c.key, "pkg:") {
			c.PURL = c.key
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

// componentsByID reads the rows of components.
func componentsByID(ctx context.Context, tx *Tx, ids []int64) (out []storedComponent, err error) {
	for part := range slices.Chunk(ids, batch) {
		var args []any
		some, err := readComponents(ctx, tx, componentColumns+` WHERE id IN (`+list(part, &args)+`)`, args...)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

// known remembers the numbers of components that are committed, which never
// change; asking the database for each is half of what a document costs. Its
// zero value is ready to use.
type known struct {
	mu   sync.Mutex
	ids  map[[2]uint64]int64 // guarded by mu
	seed [2]maphash.Seed     // set with ids
}

// knownComponents is some twenty megabytes.
const knownComponents = 500_000

func (k *known) hash(key string) [2]uint64 {
	return [2]uint64{maphash.String(k.seed[0], key), maphash.String(k.seed[1], key)}
}

// find gives the numbers of those that are remembered, and the keys of the
// others.
func (k *known) find(components []insight.Component) (ids map[string]int64, missing []string) {
	ids = make(map[string]int64, len(components))
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range components {
		key := c.Key()
		if k.ids != nil {
			if id, found := k.ids[k.hash(key)]; found {
				ids[key] = id
				continue
			}
		}
		missing = append(missing, key)
	}
	return ids, missing
}

func (k *known) add(ids map[string]int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ids == nil || len(k.ids)+len(ids) > knownComponents {
		k.ids = map[[2]uint64]int64{}
		k.seed = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	}
	for key, id := range ids {
		k.ids[k.hash(key)] = id
	}
}

// addComponents joins components, each there once, to a new document. learned
// are numbers that hold once the transaction is committed.
func (s *Store) addComponents(ctx context.Context, tx *Tx, document int64, components []insight.Component, at int64) (learned map[string]int64, err error) {
	ids, missing := s.known.find(components)
	learned = make(map[string]int64, len(missing))
	for part := range slices.Chunk(missing, batch) {
		var args []any
		stored, err := readComponents(ctx, tx, componentColumns+` WHERE key IN (`+list(part, &args)+`)`, args...)
		if err != nil {
			return nil, err
		}
		for _, c := range stored {
			learned[c.key] = c.id
		}
	}
	next, err := nextID(ctx, tx, "insight_components")
	if err != nil {
		return nil, err
	}
	var fresh []any
	var packages []string
	joined := make([]int64, 0, len(components))
	for _, c := range components {
		key := c.Key()
		id, found := ids[key]
		if !found {
			id, found = learned[key]
		}
		if !found {
			id = next
			next++
			learned[key] = id
			pkg := insight.PackageOf(c.PURL).Key()
			if pkg != "" {
				packages = append(packages, pkg)
			}
			fresh = append(fresh, id, key, c.Type, c.Group, c.Name, strings.ToLower(c.Name), c.Version, pkg)
		}
		joined = append(joined, id)
	}
	for part := range slices.Chunk(fresh, 8*batch) {
		if err := insertMany(ctx, tx, `INSERT INTO insight_components (id, key, type, grp, name, name_lower, version, package) VALUES `, 8, part); err != nil {
			return nil, err
		}
	}
	if err := noteFresh(ctx, tx, packages, at); err != nil {
		return nil, err
	}
	return learned, addMembers(ctx, tx, document, joined)
}

// placed is one current SBOM of a service.
type placed struct {
	document int64
	insight.ComponentRecord
}

const placeColumns = `
	SELECT v.document_id, v.cluster, ` + environmentOf + `, v.namespace, v.project, v.environment, v.service, v.build, v.received, d.digest
	FROM insight_inventory v JOIN insight_documents d ON d.id = v.document_id`

func scanPlaced(rows *sql.Rows) (p placed, err error) {
	var received int64
	err = rows.Scan(&p.document, &p.Cluster, &p.Environment.ID, &p.Environment.Namespace, &p.Environment.Project, &p.Environment.Name,
		&p.Service, &p.Build, &received, &p.Digest)
	p.Received = fromMicros(received)
	return p, err
}

// places reads the current SBOMs among documents, in order, until take says
// no.
func places(ctx context.Context, tx *Tx, q insight.Query, documents []int64, take func(placed) bool) error {
	f := inventory(q)
	equal(&f, "d.digest", q.Digest)
	f.standing(q)
	f.with("v.kind = ?", insight.KindSBOM)
	only := map[int64]bool{}
	if len(documents) <= batch {
		var args []any
		f.where = append(f.where, "v.document_id IN ("+list(documents, &args)+")")
		f.args = append(f.args, args...)
	}
	for _, d := range documents {
		only[d] = true
	}
	rows, err := tx.Query(ctx, placeColumns+" WHERE "+strings.Join(f.where, " AND ")+" ORDER BY v.cluster, v.place, v.service", f.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		p, err := scanPlaced(rows)
		if err != nil {
			return err
		}
		if only[p.document] && !take(p) {
			break
		}
	}
	return rows.Err()
}

// locate calls take with each component and each place where it is, in order,
// until that says no.
func locate(ctx context.Context, tx *Tx, q insight.Query, components []storedComponent, take func(storedComponent, insight.ComponentRecord) bool) error {
	ids := make([]int64, len(components))
	for i, c := range components {
		ids[i] = c.id
	}
	holding, err := holders(ctx, tx, ids)
	if err != nil {
		return err
	}
	// Of components in few documents the places are read together.
	var few []int64
	for _, documents := range holding {
		if len(documents) <= batch {
			few = append(few, documents...)
		}
	}
	slices.Sort(few)
	of := map[int64][]placed{}
	for part := range slices.Chunk(slices.Compact(few), batch) {
		err := places(ctx, tx, q, part, func(p placed) bool {
			of[p.document] = append(of[p.document], p)
			return true
		})
		if err != nil {
			return err
		}
	}
	more := true
	give := func(c storedComponent, p placed) bool {
		p.Component = c.Component
		more = take(c, p.ComponentRecord)
		return more
	}
	for _, c := range components {
		documents := holding[c.id]
		if len(documents) > batch {
			if err := places(ctx, tx, q, documents, func(p placed) bool { return give(c, p) }); err != nil {
				return err
			}
		} else {
			var found []placed
			for _, d := range documents {
				found = append(found, of[d]...)
			}
			slices.SortFunc(found, func(a, b placed) int {
				return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Environment.Place(), b.Environment.Place()), cmp.Compare(a.Service, b.Service))
			})
			for _, p := range found {
				if !give(c, p) {
					break
				}
			}
		}
		if !more {
			return nil
		}
	}
	return nil
}

// Components lists what runs now: components whose name, or whose purl where
// q.Q begins with "pkg:", begins with q.Q, with each place where they are.
func (s *Store) Components(ctx context.Context, q insight.Query) (out []insight.ComponentRecord, err error) {
	limit := pageOf(q)
	skip := q.Offset
	take := func(_ storedComponent, r insight.ComponentRecord) bool {
		if skip > 0 {
			skip--
			return true
		}
		out = append(out, r)
		return len(out) < limit
	}
	err = s.view(ctx, func(tx *Tx) error {
		if q.Digest != "" || narrow(q) {
			some, err := componentsWithin(ctx, tx, q)
			if err != nil {
				return err
			}
			for part := range slices.Chunk(some, 200) {
				if err := locate(ctx, tx, q, part, take); err != nil || len(out) == limit {
					return err
				}
			}
			return nil
		}
		for at, size := 0, 8; ; at, size = at+size, min(2*size, 256) {
			some, err := componentsByName(ctx, tx, q.Q, at, size)
			if err != nil || len(some) == 0 {
				return err
			}
			if err := locate(ctx, tx, q, some, take); err != nil || len(out) == limit {
				return err
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("search components: %w", err)
	}
	return out, nil
}

// narrow reports whether a query is about part of the places.
func narrow(q insight.Query) bool {
	return q.Cluster != "" || q.Namespace != "" || q.Project != "" || q.Environment != "" || q.Service != "" || q.Within != nil
}

// named is the condition of Query.Q, and the order of components.
func named(q string) (f filter, order string) {
	switch {
	case strings.HasPrefix(q, "pkg:"):
		f.prefix("key", insight.PURLPrefix(q))
		return f, "key"
	case q != "":
		f.prefix("name_lower", strings.ToLower(q))
	}
	return f, "name_lower, version, key"
}

func componentsByName(ctx context.Context, tx *Tx, q string, offset, limit int) ([]storedComponent, error) {
	f, order := named(q)
	query := componentColumns
	if len(f.where) > 0 {
		query += " WHERE " + strings.Join(f.where, " AND ")
	}
	return readComponents(ctx, tx, query+" ORDER BY "+order+" LIMIT ? OFFSET ?", append(f.args, limit, offset)...)
}

// componentsWithin lists the components of the places of a query, in order.
func componentsWithin(ctx context.Context, tx *Tx, q insight.Query) ([]storedComponent, error) {
	f := inventory(q)
	equal(&f, "d.digest", q.Digest)
	f.standing(q)
	f.with("v.kind = ?", insight.KindSBOM)
	documents, err := numbers(tx.Query(ctx, `
		SELECT DISTINCT v.document_id FROM insight_inventory v JOIN insight_documents d ON d.id = v.document_id
		WHERE `+strings.Join(f.where, " AND "), f.args...))
	if err != nil {
		return nil, err
	}
	ids, err := members(ctx, tx, documents)
	if err != nil {
		return nil, err
	}
	found, err := componentsByID(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	byPURL := strings.HasPrefix(q.Q, "pkg:")
	begins, prefix := func(c storedComponent) string { return strings.ToLower(c.Name) }, strings.ToLower(q.Q)
	if byPURL {
		begins, prefix = func(c storedComponent) string { return c.key }, insight.PURLPrefix(q.Q)
	}
	found = slices.DeleteFunc(found, func(c storedComponent) bool { return !strings.HasPrefix(begins(c), prefix) })
	slices.SortFunc(found, func(a, b storedComponent) int {
		if byPURL {
			return cmp.Compare(a.key, b.key)
		}
		return cmp.Or(cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), cmp.Compare(a.Version, b.Version), cmp.Compare(a.key, b.key))
	})
	return found, nil
}

// numbers reads rows of one number, and closes them.
func numbers(rows *sql.Rows, err error) (out []int64, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, rows.Err()
}
