package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/scan"
)

var _ insight.InventoryStore = (*Store)(nil)

const (
	// settled is for how long a workload or a pod is in no view before it isn't a
	// policy's subject any more: what crashes, is started anew, or sleeps at night
	// comes back.
	settled = 24 * time.Hour
	// settledOnce is that of what is made to end, and has another name next time; its
	// next attempt comes sooner.
	settledOnce = time.Hour
	// settledCronJob is that of a CronJob where nobody knows whether there still is
	// one: those of each week come back.
	settledCronJob = 8 * 24 * time.Hour
	// away is after how long without a report these times stand still: nobody knows
	// what there was.
	away = time.Hour
	// viewFresh is for how long a view tells what there is. Its agent reports each
	// change at once, and otherwise three times as often.
	viewFresh = 15 * time.Minute
	// unseenFor is how long, at least, a container is a subject that no view has, by a
	// scan without a result: the next view may have it.
	unseenFor = time.Minute
)

// workloadKey is the primary key within a cluster.
type workloadKey struct{ namespace, kind, name, container, digest string }

func keyOf(w insight.Workload) workloadKey {
	return workloadKey{w.Namespace, w.Kind, w.Name, w.Container, w.Digest}
}

// place is the key without the image.
func (k workloadKey) place() workloadKey {
	k.digest = ""
	return k
}

// inventoryChange has what runs in a cluster written.
type inventoryChange struct {
	tx      *Tx
	cluster fleet.AgentName
	at      time.Time
	// reported, digests and viewed are those of the report before.
	reported, digests, viewed int64
	// cronJobs says that contents tell which of those there are.
	cronJobs bool
	// cut says that there may be more than is told.
	cut bool
	// changed are the namespaces of which policies have to know.
	changed map[string]bool
}

// knownWorkload is a row of the table.
type knownWorkload struct {
	insight.Workload
	absent, ends int64
}

// replace has the workloads be now those in the rows that meet the condition.
// there are the CronJobs that there are.
func (c *inventoryChange) replace(ctx context.Context, f filter, now []insight.Workload, there cronJobs) error {
	f.with("w.cluster = ?", c.cluster)
	rows, err := c.tx.Query(ctx, `SELECT `+workloadColumns+`, w.absent, w.ends FROM workloads w WHERE `+strings.Join(f.where, " AND "), f.args...)
	if err != nil {
		return err
	}
	before := map[workloadKey]knownWorkload{}
	err = eachRow(rows, func() error {
		var k knownWorkload
		w, err := scanWorkload(rows, &k.absent, &k.ends)
		k.Workload = w.Workload
		before[keyOf(k.Workload)] = k
		return err
	})
	if err != nil {
		return err
	}
	var fresh []any
	written, runs := make(map[workloadKey]bool, len(now)), make(map[workloadKey]bool, len(now)) // by the key, and by the place
	for _, w := range now {
		key := keyOf(w)
		if written[key] {
			continue
		}
		written[key], runs[key.place()] = true, true
		old, known := before[key]
		delete(before, key)
		if known && old.Is(w) && old.absent == 0 {
			continue
		}
		labels := ""
		if len(w.Labels) > 0 {
			text, err := json.Marshal(w.Labels)
			if err != nil {
				return err
			}
			labels = string(text)
		}
		fresh = append(fresh, c.cluster, w.Namespace, w.Kind, w.Name, w.Container, w.Digest, w.Image, w.Service, w.Pods, labels, micros(c.at))
		old.Pods = w.Pods // which is no policy's matter
		if !known || !old.Is(w) {
			c.changed[w.Namespace] = true
		}
	}
	if !c.cut {
		if err := c.miss(ctx, before, runs, there); err != nil {
			return err
		}
	}
	const columns = 11
	for part := range slices.Chunk(fresh, columns*batch) {
		values := strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?), ", len(part)/columns), ", ")
		if _, err := c.tx.Exec(ctx, `
			INSERT INTO workloads (cluster, namespace, kind, name, container, digest, image, service, pods, labels, first_seen) VALUES `+values+`
			ON CONFLICT (cluster, namespace, kind, name, container, digest) DO UPDATE SET
				image = excluded.image, service = excluded.service, pods = excluded.pods, labels = excluded.labels, absent = 0, ends = 0`, part...); err != nil {
			return err
		}
	}
	return nil
}

// cronJobs are those that there are, by namespace and name, with the containers of
// their pods.
type cronJobs map[[2]string][]string

var cronJobPod = regexp.MustCompile(`^(.+)-[0-9]{8,}(-[0-9]+)?-[0-9a-z]{5}$`)

// add adds those of a namespace.
func (j cronJobs) add(namespace string, of insight.Contents) {
	for _, name := range of.CronJobs {
		j[[2]string{namespace, name}] = nil
	}
	for pod, containers := range of.Pods {
		if name := cronJobPod.FindStringSubmatch(pod); name != nil {
			if all, is := j[[2]string{namespace, name[1]}]; is {
				j[[2]string{namespace, name[1]}] = append(all, containers...)
			}
		}
	}
}

// without reports whether a CronJob has pods, and none of them the container.
func (j cronJobs) without(key workloadKey) bool {
	containers := j[[2]string{key.namespace, key.name}]
	return key.kind == "CronJob" && len(containers) > 0 && !slices.Contains(containers, key.container)
}

// miss notes which workloads don't run. Where one, in the same place, runs another
// image, or a CronJob has no such container, it doesn't run this one any more; else
// it may come back.
func (c *inventoryChange) miss(ctx context.Context, missed map[workloadKey]knownWorkload, runs map[workloadKey]bool, there cronJobs) error {
	var replaced []workloadKey
	ending := map[int64][]workloadKey{} // by when
	for key, old := range missed {
		if runs[key.place()] || there.without(key) {
			c.changed[key.namespace] = true
			replaced = append(replaced, key)
		} else if ends := c.ends(key, old, there); old.absent == 0 || old.ends != ends {
			ending[ends] = append(ending[ends], key)
		}
	}
	if err := c.each(ctx, `DELETE FROM workloads`, replaced); err != nil {
		return err
	}
	for ends, keys := range ending {
		if err := c.each(ctx, `UPDATE workloads SET absent = CASE WHEN absent > 0 THEN absent ELSE ? END, ends = ?`, keys, micros(c.at), ends); err != nil {
			return err
		}
	}
	return nil
}

// ends is when a workload that doesn't run is forgotten; 0: not.
func (c *inventoryChange) ends(key workloadKey, old knownWorkload, there cronJobs) int64 {
	cronJob := key.kind == "CronJob"
	_, is := there[[2]string{key.namespace, key.name}]
	switch {
	case cronJob && is:
		return 0
	case old.ends > 0:
		return old.ends
	case cronJob && !c.cronJobs:
		return micros(c.at.Add(settledCronJob))
	case key.kind == "Pod" || key.kind == "Job":
		return micros(c.at.Add(settledOnce))
	}
	return micros(c.at.Add(settled))
}

// each executes a statement, with its own arguments, on workloads.
func (c *inventoryChange) each(ctx context.Context, statement string, keys []workloadKey, args ...any) error {
	for part := range slices.Chunk(keys, batch) {
		all := append(slices.Clone(args), c.cluster)
		for _, k := range part {
			all = append(all, k.namespace, k.kind, k.name, k.container, k.digest)
		}
		if _, err := c.tx.Exec(ctx, statement+` WHERE cluster = ? AND (namespace, kind, name, container, digest) IN (VALUES (?, ?, ?, ?, ?)`+
			strings.Repeat(`, (?, ?, ?, ?, ?)`, len(part)-1)+`)`, all...); err != nil {
			return err
		}
	}
	return nil
}

// forget removes what didn't run for long enough.
func (c *inventoryChange) forget(ctx context.Context) error {
	const over = ` FROM workloads WHERE cluster = ? AND ends > 0 AND ends <= ?`
	args := []any{c.cluster, micros(c.at)}
	namespaces, err := texts(c.tx.Query(ctx, `SELECT DISTINCT namespace`+over, args...))
	if err != nil || len(namespaces) == 0 {
		return err
	}
	for _, n := range namespaces {
		c.changed[n] = true
	}
	_, err = c.tx.Exec(ctx, `DELETE`+over, args...)
	return err
}

// mark has policies evaluated where something has changed.
func (c *inventoryChange) mark(ctx context.Context) error {
	for _, namespace := range slices.Sorted(maps.Keys(c.changed)) {
		if err := markPolicies(ctx, c.tx, c.cluster, namespace); err != nil {
			return err
		}
	}
	return nil
}

// report notes how an agent reported, with digests as of the report's own time.
func (c *inventoryChange) report(ctx context.Context, workloads int, b insight.Backlog, digests, viewed int64) error {
	_, err := c.tx.Exec(ctx, `
		INSERT INTO workload_reports (cluster, reported, workloads, backlog_items, backlog_bytes, backlog_since, backlog_broker, digests, viewed)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (cluster) DO UPDATE SET reported = excluded.reported, workloads = excluded.workloads,
			backlog_items = excluded.backlog_items, backlog_bytes = excluded.backlog_bytes, backlog_since = excluded.backlog_since,
			backlog_broker = excluded.backlog_broker, digests = excluded.digests, viewed = excluded.viewed`,
		c.cluster, micros(c.at), workloads, b.Items, b.Bytes, micros(b.Since), b.Broker, digests, viewed)
	return err
}

// forgetView removes what only views tell.
func (c *inventoryChange) forgetView(ctx context.Context) error {
	for _, table := range []string{"inventory_namespaces", "inventory_containers"} {
		if _, err := c.tx.Exec(ctx, `DELETE FROM `+table+` WHERE cluster = ?`, c.cluster); err != nil {
			return err
		}
	}
	return nil
}

// renewView has all that is known to run told anew.
func (c *inventoryChange) renewView(ctx context.Context) error {
	if err := c.forgetView(ctx); err != nil {
		return err
	}
	_, err := c.tx.Exec(ctx, `INSERT INTO inventory_namespaces (cluster, namespace, digest, workloads, size)
		SELECT DISTINCT cluster, namespace, '', CAST(0 AS BIGINT), CAST(0 AS BIGINT) FROM workloads WHERE cluster = ?`, c.cluster)
	return err
}

// standStill has the time not count in which the agent was away.
func (c *inventoryChange) standStill(ctx context.Context) error {
	gap := micros(c.at) - c.reported
	if c.reported == 0 || gap <= away.Microseconds() {
		return nil
	}
	if _, err := c.tx.Exec(ctx, `UPDATE workloads SET ends = ends + ? WHERE cluster = ? AND ends > 0`, gap, c.cluster); err != nil {
		return err
	}
	_, err := c.tx.Exec(ctx, `UPDATE policy_subjects SET absent = absent + ? WHERE agent = ? AND absent > 0`, gap, c.cluster)
	return err
}

func (s *Store) changeInventory(ctx context.Context, c inventoryChange, f func(*inventoryChange) error) error {
	err := s.update(ctx, func(tx *Tx) error {
		c := c
		c.tx, c.changed = tx, map[string]bool{}
		if err := tx.Lock(ctx, "inventory of "+string(c.cluster)); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `SELECT reported, digests, viewed FROM workload_reports WHERE cluster = ?`, c.cluster).Scan(&c.reported, &c.digests, &c.viewed)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err := c.standStill(ctx); err != nil {
			return err
		}
		if err := f(&c); err != nil {
			return err
		}
		return c.mark(ctx)
	})
	if err != nil {
		return fmt.Errorf("inventory of %s: %w", c.cluster, err)
	}
	return nil
}

// PutInventory implements insight.InventoryStore.
func (s *Store) PutInventory(ctx context.Context, cluster fleet.AgentName, i insight.Inventory, at time.Time) error {
	c := inventoryChange{cluster: cluster, at: at, cut: len(i.Workloads) >= insight.MaxWorkloads}
	return s.changeInventory(ctx, c, func(c *inventoryChange) error {
		if err := c.replace(ctx, filter{}, i.Workloads, nil); err != nil {
			return err
		}
		if !c.cut {
			if err := c.forget(ctx); err != nil {
				return err
			}
		}
		if err := c.forgetView(ctx); err != nil {
			return err
		}
		if err := putPolicyAnnotations(ctx, c.tx, cluster, i.Policies, c.changed, micros(at)); err != nil {
			return err
		}
		return c.report(ctx, len(i.Workloads), i.Backlog, 0, 0)
	})
}

// PutView implements insight.InventoryStore. Once the view is complete, what has
// been in none for long enough is forgotten: workloads, and pods' containers as
// policies' subjects.
func (s *Store) PutView(ctx context.Context, cluster fleet.AgentName, v insight.View, at time.Time) (wanted []string, err error) {
	c := inventoryChange{cluster: cluster, at: at, cronJobs: v.CronJobs}
	err = s.changeInventory(ctx, c, func(c *inventoryChange) error {
		wanted = nil
		viewed := c.viewed
		if c.digests != c.reported {
			// The last report was by an older agent, or to an older hub.
			viewed = 0
			if err := c.renewView(ctx); err != nil {
				return err
			}
		}
		var workloads int
		var err error
		if wanted, workloads, err = c.view(ctx, v); err != nil {
			return err
		}
		if len(wanted) == 0 {
			viewed = micros(at)
			if err := c.forget(ctx); err != nil {
				return err
			}
			if err := s.endPods(ctx, c.tx, cluster, at); err != nil {
				return err
			}
		}
		if err := putPolicyAnnotations(ctx, c.tx, cluster, v.Policies, c.changed, micros(at)); err != nil {
			return err
		}
		return c.report(ctx, workloads, v.Backlog, micros(at), viewed)
	})
	return wanted, err
}

// view has the contents of v be those that are known, and answers of which
// namespaces these are others than v says, and how many workloads run.
func (c *inventoryChange) view(ctx context.Context, v insight.View) (wanted []string, workloads int, err error) {
	type contents struct {
		digest          string
		workloads, size int
	}
	known := map[string]contents{}
	rows, err := c.tx.Query(ctx, `SELECT namespace, digest, workloads, size FROM inventory_namespaces WHERE cluster = ?`, c.cluster)
	if err != nil {
		return nil, 0, err
	}
	err = eachRow(rows, func() error {
		var name string
		var n contents
		err := rows.Scan(&name, &n.digest, &n.workloads, &n.size)
		known[name] = n
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	var fresh []string
	for _, name := range slices.Sorted(maps.Keys(v.Namespaces)) {
		digest := v.Namespaces[name]
		of, told := v.Contents[name]
		switch {
		case known[name].digest == digest:
		case told:
			fresh = append(fresh, name)
			known[name] = contents{digest, len(of.Workloads), of.Size()}
		default:
			wanted = append(wanted, name)
		}
	}
	var gone []string
	size := 0
	for name, n := range known {
		if v.Namespaces[name] == "" {
			gone = append(gone, name)
		} else {
			workloads, size = workloads+n.workloads, size+n.size
		}
	}
	if size > insight.MaxContents {
		return nil, 0, insight.Invalidf("contents: with what is known already there are %d workloads, containers and CronJobs, there must be at most %d", size, insight.MaxContents)
	}
	for part := range slices.Chunk(append(fresh, gone...), batch) {
		if err := c.replaceContents(ctx, v, part); err != nil {
			return nil, 0, err
		}
	}
	return wanted, workloads, nil
}

// replaceContents has the contents of namespaces be those that v has of them.
func (c *inventoryChange) replaceContents(ctx context.Context, v insight.View, namespaces []string) error {
	var now []insight.Workload
	there := cronJobs{}
	pods := map[[2]string]bool{} // namespace and POD/CONTAINER
	var told []any
	for _, name := range namespaces {
		of := v.Contents[name]
		now = append(now, of.Workloads...)
		there.add(name, of)
		for pod, containers := range of.Pods {
			for _, container := range containers {
				pods[[2]string{name, pod + "/" + container}] = true
			}
		}
		if digest := v.Namespaces[name]; digest != "" {
			told = append(told, c.cluster, name, digest, len(of.Workloads), of.Size())
		}
	}
	var f filter
	f.where = append(f.where, `w.namespace IN (`+list(namespaces, &f.args)+`)`)
	if err := c.replace(ctx, f, now, there); err != nil {
		return err
	}
	if err := c.replaceContainers(ctx, namespaces, pods); err != nil {
		return err
	}
	args := []any{c.cluster}
	if _, err := c.tx.Exec(ctx, `DELETE FROM inventory_namespaces WHERE cluster = ? AND namespace IN (`+list(namespaces, &args)+`)`, args...); err != nil {
		return err
	}
	return c.insert(ctx, `inventory_namespaces (cluster, namespace, digest, workloads, size)`, 5, told)
}

// replaceContainers has the containers of namespaces be now.
func (c *inventoryChange) replaceContainers(ctx context.Context, namespaces []string, now map[[2]string]bool) error {
	args := []any{c.cluster}
	rows, err := c.tx.Query(ctx, `SELECT namespace, name FROM inventory_containers WHERE cluster = ? AND namespace IN (`+list(namespaces, &args)+`)`, args...)
	if err != nil {
		return err
	}
	var gone [][2]string
	err = eachRow(rows, func() error {
		var k [2]string
		err := rows.Scan(&k[0], &k[1])
		if !now[k] {
			gone = append(gone, k)
		}
		delete(now, k)
		return err
	})
	if err != nil {
		return err
	}
	for part := range slices.Chunk(gone, batch) {
		args := []any{c.cluster}
		for _, k := range part {
			args = append(args, k[0], k[1])
		}
		if _, err := c.tx.Exec(ctx, `DELETE FROM inventory_containers WHERE cluster = ? AND (namespace, name) IN (VALUES (?, ?)`+
			strings.Repeat(`, (?, ?)`, len(part)-1)+`)`, args...); err != nil {
			return err
		}
	}
	var fresh []any
	for k := range now {
		fresh = append(fresh, c.cluster, k[0], k[1])
	}
	return c.insert(ctx, `inventory_containers (cluster, namespace, name)`, 3, fresh)
}

// insert adds rows of so many columns.
func (c *inventoryChange) insert(ctx context.Context, table string, columns int, values []any) error {
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", columns), ", ") + ")"
	for part := range slices.Chunk(values, columns*batch) {
		if _, err := c.tx.Exec(ctx, `INSERT INTO `+table+` VALUES `+strings.TrimSuffix(strings.Repeat(row+", ", len(part)/columns), ", "), part...); err != nil {
			return err
		}
	}
	return nil
}

// there says whether a subject's container is in its agent's last view.
const there = `EXISTS (SELECT 1 FROM inventory_containers c
	WHERE c.cluster = policy_subjects.agent AND c.namespace = policy_subjects.namespace AND c.name = policy_subjects.repo)`

// endPods has pods' containers not be subjects any more that views have been
// without for long enough, and notes which the view is without.
func (s *Store) endPods(ctx context.Context, tx *Tx, cluster fleet.AgentName, at time.Time) error {
	const set = `UPDATE policy_subjects SET absent = ? WHERE agent = ? AND pod = 1 AND absent `
	if _, err := tx.Exec(ctx, set+`> 0 AND `+there, 0, cluster); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, set+`= 0 AND NOT `+there, micros(at), cluster); err != nil {
		return err
	}
	var f filter
	f.with("agent = ?", cluster)
	f.with("absent <= ?", micros(at.Add(-settled)))
	f.where = append(f.where, "pod = 1", "absent > 0")
	_, err := s.endSubjects(ctx, tx, policy.Fleet, string(policy.NewRunID()), f, at, func(policy.SubjectRecord) string {
		return "its pod isn't there any more"
	})
	return err
}

// podUnseen reports whether a container isn't in its agent's view, as far as that
// tells what there is now.
func podUnseen(ctx context.Context, tx *Tx, t scan.Target, now time.Time) (unseen bool, err error) {
	err = tx.QueryRow(ctx, `
		SELECT COUNT(*) > 0 FROM workload_reports r WHERE r.cluster = ? AND r.digests = r.reported AND r.viewed >= ?
		AND NOT EXISTS (SELECT 1 FROM inventory_containers c WHERE c.cluster = r.cluster AND c.namespace = ? AND c.name = ?)`,
		t.Agent, micros(now.Add(-viewFresh)), t.Namespace, t.Pod+"/"+t.Container).Scan(&unseen)
	return unseen, err
}
