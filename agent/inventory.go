package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/lagoon"
	insightlink "reeve.dev/reeve/insight/link"
	scankube "reeve.dev/reeve/scan/kube"
	scanlink "reeve.dev/reeve/scan/link"
)

const (
	// inventoryEvery is how soon the hub knows of a change.
	inventoryEvery = 10 * time.Second
	// inventoryStale is when it is told again that nothing changed, and when an older
	// hub is asked again whether it is one.
	inventoryStale = 5 * time.Minute
	// inventoryPage is how much one request tells of what the hub doesn't know yet,
	// as insight.Contents has its size, or one namespace that has more.
	inventoryPage = 10_000
	// annotationsEvery is how often namespaces' annotations are read, and cronJobsEvery
	// which CronJobs there are.
	annotationsEvery = time.Minute
	cronJobsEvery    = 5 * time.Minute
)

// watched is what a scankube.Watcher knows.
type watched interface {
	Namespaces() (versions map[string]uint64, ok bool)
	Inventory(namespace string) (running map[string]scankube.Deployment, count map[string]int, pods map[string][]string)
	Annotated(ctx context.Context, annotation string) (map[string]string, error)
	CronJobs(ctx context.Context) (map[string][]string, error)
}

// reporter tells the hub what there is in the cluster. It keeps of each namespace
// what tells its contents from others, and not the contents.
type reporter struct {
	from    watched
	to      *insightlink.Client
	backlog func() insight.Backlog
	log     *slog.Logger

	namespaces map[string]*namespaceReport
	// sent is when the hub was told last, and trouble what of the broker.
	sent    time.Time
	trouble string
	// older is until when the hub counts as one that takes no views.
	older time.Time

	annotations rights
	said, told  map[string]string // by namespaces of policies, and what the hub knows of that; nil: nothing
	cronJobs    rights
	jobs        map[string][]string // by namespace; nil where that isn't known
}

// namespaceReport is what the hub is told, or knows, of a namespace.
type namespaceReport struct {
	version uint64
	jobs    []string
	digest  string
	known   bool // by the hub
}

// rights is how it went to ask the cluster for what the agent may not be allowed to
// know.
type rights struct {
	asked     time.Time
	forbidden bool
}

// reportInventory tells the hub what runs, until ctx ends.
func (a *Agent) reportInventory(ctx context.Context, watcher *scankube.Watcher) {
	log := a.component("inventory")
	r := &reporter{
		from: watcher, to: &insightlink.Client{Base: scanlink.BaseURL, HTTP: &http.Client{Transport: a.up}, Logger: log},
		backlog: func() insight.Backlog {
			waiting := a.insights.Stats()
			return insight.Backlog{Items: waiting.Items, Bytes: waiting.Bytes, Since: waiting.Oldest, Broker: a.brokerTrouble()}
		},
		log: log, namespaces: map[string]*namespaceReport{},
	}
	tick := time.NewTicker(inventoryEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := r.report(ctx); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "the hub doesn't know what runs, will retry", "error", err)
		}
	}
}

// report tells the hub what it doesn't know, or, once in a while, that there is no
// such thing.
func (r *reporter) report(ctx context.Context) error {
	versions, ok := r.from.Namespaces()
	if !ok {
		return nil
	}
	r.ask(ctx)
	changed, err := r.look(versions)
	if err != nil {
		return err
	}
	backlog := r.backlog()
	if !changed && backlog.Broker == r.trouble && !r.says() && time.Since(r.sent) < inventoryStale {
		return nil
	}
	if time.Now().After(r.older) {
		if err = r.tell(ctx, backlog); errors.Is(err, insightlink.ErrNoViews) {
			r.older = time.Now().Add(inventoryStale)
		}
	}
	if time.Now().Before(r.older) {
		err = r.tellAll(ctx, backlog)
	}
	if err == nil {
		r.trouble, r.told, r.sent = backlog.Broker, r.said, time.Now()
	}
	return err
}

// ask asks the cluster, if it is time to, for what a watcher doesn't watch.
func (r *reporter) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if r.annotations.due(annotationsEvery) {
		found, err := r.from.Annotated(ctx, insight.PolicyAnnotation)
		switch {
		case err != nil:
			r.annotations.failed(ctx, r.log, "what namespaces' annotations say of policies", "namespaces", err)
		case insight.CutAnnotations(found):
			for name := range r.said {
				if found[name] == "" { // it may be gone, with its CronJobs
					r.cronJobs.asked = time.Time{}
				}
			}
			r.said, r.annotations.forbidden = found, false
		default:
			r.log.WarnContext(ctx, "namespaces say more of policies than the hub takes; it keeps what it knows", "annotation", insight.PolicyAnnotation, "namespaces", len(found), "limit", insight.MaxAnnotated)
		}
	}
	if r.cronJobs.due(cronJobsEvery) {
		found, err := r.from.CronJobs(ctx)
		switch {
		case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
			r.jobs = nil
			fallthrough
		case err != nil:
			r.cronJobs.failed(ctx, r.log, "which CronJobs there are", "cronjobs", err)
		default:
			r.jobs, r.cronJobs.forbidden = found, false
		}
	}
}

func (g *rights) due(every time.Duration) bool {
	if time.Since(g.asked) < every {
		return false
	}
	g.asked = time.Now()
	return true
}

// failed logs what isn't known, once where it may not be.
func (g *rights) failed(ctx context.Context, log *slog.Logger, what, resource string, err error) {
	switch {
	case !apierrors.IsForbidden(err):
		log.WarnContext(ctx, what+" isn't known, will retry", "error", err)
	case !g.forbidden:
		log.InfoContext(ctx, what+" isn't known: it needs the right to list "+resource)
		g.forbidden = true
	}
}

// look finds out of which namespaces the hub has to be told, and reports whether
// there are any.
func (r *reporter) look(versions map[string]uint64) (changed bool, err error) {
	for name := range r.namespaces {
		if versions[name] == 0 && len(r.jobs[name]) == 0 {
			delete(r.namespaces, name)
			r.sent = time.Time{}
		}
	}
	for _, name := range slices.Concat(slices.Collect(maps.Keys(versions)), slices.Collect(maps.Keys(r.jobs))) {
		n := r.namespaces[name]
		if n == nil || n.version != versions[name] || !slices.Equal(n.jobs, r.jobs[name]) {
			_, digest, err := r.contents(name)
			if err != nil {
				return false, err
			}
			n = &namespaceReport{version: versions[name], jobs: r.jobs[name], digest: digest, known: n != nil && n.known && n.digest == digest}
			r.namespaces[name] = n
		}
		changed = changed || !n.known
	}
	return changed, nil
}

// contents are those of a namespace now, with what tells them from others.
func (r *reporter) contents(namespace string) (c insight.Contents, digest string, err error) {
	running, count, pods := r.from.Inventory(namespace)
	c = insight.Contents{Workloads: workloads(running, count), Pods: pods, CronJobs: r.jobs[namespace]}
	text, err := json.Marshal(c)
	sum := sha256.Sum256(text)
	return c, base64.RawStdEncoding.EncodeToString(sum[:16]), err
}

// tell has the hub know all, in as many requests as that takes: what it wants is told
// in the next one.
func (r *reporter) tell(ctx context.Context, backlog insight.Backlog) error {
	v := insight.View{CronJobs: r.jobs != nil, Backlog: backlog}
	stale := time.Since(r.sent) >= inventoryStale
	if stale || r.says() {
		v.Policies = r.said
	}
	page := inventoryPage
	if stale {
		page = 0 // it may know all, from the process before
	}
	for before := len(r.namespaces) + 1; ; page = inventoryPage {
		if err := r.fill(&v, page); err != nil {
			return err
		}
		call, cancel := context.WithTimeout(ctx, callTimeout)
		wanted, err := r.to.SendView(call, v)
		cancel()
		if err != nil {
			return err
		}
		for _, n := range r.namespaces {
			n.known = true
		}
		for _, name := range wanted {
			if n := r.namespaces[name]; n != nil {
				n.known = false
			}
		}
		switch {
		case len(wanted) == 0:
			return nil
		case len(wanted) >= before:
			return fmt.Errorf("it still wants the contents of %d namespaces, such as %s", len(wanted), wanted[0])
		}
		before, v.Policies = len(wanted), nil
	}
}

// says reports whether namespaces say something of policies that the hub doesn't know.
func (r *reporter) says() bool {
	return (r.said == nil) != (r.told == nil) || !maps.Equal(r.said, r.told)
}

// fill has v be a page, of that size, of what the hub doesn't know.
func (r *reporter) fill(v *insight.View, page int) error {
	v.Namespaces, v.Contents = make(map[string]string, len(r.namespaces)), map[string]insight.Contents{}
	size := 0
	for _, name := range slices.Sorted(maps.Keys(r.namespaces)) {
		n := r.namespaces[name]
		if !n.known && size < page {
			c, digest, err := r.contents(name)
			if err != nil {
				return err
			}
			n.digest, v.Contents[name] = digest, c
			size += c.Size()
		}
		v.Namespaces[name] = n.digest
	}
	return nil
}

// tellAll has an older hub know what runs, as far as it takes that.
func (r *reporter) tellAll(ctx context.Context, backlog insight.Backlog) error {
	i := insight.Inventory{Workloads: []insight.Workload{}, Backlog: backlog, Policies: r.said}
	for _, name := range slices.Sorted(maps.Keys(r.namespaces)) {
		running, count, _ := r.from.Inventory(name)
		i.Workloads = append(i.Workloads, workloads(running, count)...)
	}
	if n := len(i.Workloads); n > insight.MaxWorkloads {
		r.log.WarnContext(ctx, "more runs than a hub of an older version takes; it isn't told of the last by namespace: upgrade it", "workloads", n, "limit", insight.MaxWorkloads)
		i.Workloads = i.Workloads[:insight.MaxWorkloads]
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := r.to.SendInventory(call, i); err != nil {
		return err
	}
	for _, n := range r.namespaces {
		n.known = true
	}
	return nil
}

// workloads are the running deployments in the order of their places.
func workloads(running map[string]scankube.Deployment, pods map[string]int) []insight.Workload {
	out := make([]insight.Workload, 0, len(running))
	for key, d := range running {
		w := insight.Workload{
			Namespace: d.Namespace, Kind: d.Kind, Name: d.Workload, Container: d.Container, Image: d.Image, Digest: d.Digest,
			Service: d.Labels[lagoon.LabelService], Pods: pods[key], Labels: lasting(d.Labels),
		}
		if w.Kind == "" {
			w.Kind, w.Name = "Pod", d.Pod
		}
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b insight.Workload) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Container, b.Container), cmp.Compare(a.Digest, b.Digest))
	})
	return out
}

// lasting are the labels that the pods of a workload share, in each of its
// versions.
func lasting(labels map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range labels {
		switch k {
		case "pod-template-hash", "controller-revision-hash", "pod-template-generation", "statefulset.kubernetes.io/pod-name",
			"apps.kubernetes.io/pod-index", "controller-uid", "batch.kubernetes.io/controller-uid", "job-name", "batch.kubernetes.io/job-name":
		default:
			out[k] = v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
