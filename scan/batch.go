package scan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/labels"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/internal/near"
)

// Selector chooses containers of one cluster; the zero value of a member
// chooses all.
type Selector struct {
	Namespace string `json:"namespace,omitempty"`
	// Labels are a label selector as Kubernetes writes it, of pods.
	Labels string `json:"labels,omitempty"`
	// Kind and Name are of the workload that the pods belong to, or of a Pod:
	// unless Container names another, its only container is chosen then, or the
	// one that its annotation names as kubectl's default.
	Kind string `json:"kind,omitempty"`
	Name string `json:"name,omitempty"`
	// Container is the name of the containers.
	Container string `json:"container,omitempty"`
}

// Workloads are the kinds that a Selector may name.
var Workloads = []string{"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Pod"}

// KindSelector is the kind of a selection's row: only agents that know how to
// select take it.
const KindSelector = "k8s-selector"

// MaxSelected is how many containers one selection may find.
const MaxSelected = 5000

// ErrNoBatch says that there is no batch of that id.
var ErrNoBatch = errors.New("batch not found")

// BatchID names a batch: a UUID of version 7.
type BatchID string

// BatchRequest asks for scans of all that a selector chooses. Its Request is
// that of each of them, but for the target.
type BatchRequest struct {
	Request
	// Agents are those whose clusters are searched; none: all that allow
	// containers and that Permit lets pass.
	Agents   []fleet.AgentName
	Selector Selector
}

// Batch is scans that were asked for together. For each agent there is a
// selection: a scan without results of its own, which ends when the agent has
// told what the selector chooses, and the scans of that are queued.
type Batch struct {
	ID          BatchID
	RequestedBy string
	Created     time.Time
	Selections  []Scan
	// Scans counts those that the selections have led to, Outcomes those that
	// are completed.
	Scans    map[Status]int
	Outcomes map[Outcome]int
}

// BatchStore is what a Store keeps of batches. Each method is one transaction.
type BatchStore interface {
	// CreateBatch keeps a batch, its selections and its request's key; see
	// CreateScan.
	CreateBatch(ctx context.Context, b Batch, k Key) error
	// BatchByKey is as ScanByKey.
	BatchByKey(ctx context.Context, k Key, now time.Time) (Batch, error)
	// Batch returns ErrNoBatch if there is none.
	Batch(ctx context.Context, id BatchID) (Batch, error)
	// ExpandScan ends a selection and queues what it has found. It returns
	// ErrNotFound, ErrFinished or ErrStale.
	ExpandScan(ctx context.Context, f Finish, found []Scan, now time.Time) error
	// CancelBatch ends what isn't finished of a batch, and returns how many
	// scans that were; ErrNoBatch if there is none.
	CancelBatch(ctx context.Context, id BatchID, reason string, now time.Time) (int, error)
}

func isSelector(text string) bool {
	_, err := labels.Parse(text)
	return err == nil
}

func (s Selector) validate() error {
	switch {
	case s.Namespace != "" && !dnsLabel.MatchString(s.Namespace):
		return invalid("selector.namespace", "%q can't be the name of a namespace: lower-case letters, digits and '-', at most 63", s.Namespace)
	case len(s.Labels) > maxURI || !isSelector(s.Labels):
		return invalid("selector.labels", "must be a label selector of Kubernetes, such as app=web,tier!=test")
	case s.Container != "" && !dnsLabel.MatchString(s.Container):
		return invalid("selector.container", "%q can't be the name of a container: lower-case letters, digits and '-', at most 63", s.Container)
	case s.Kind == "" && s.Name == "":
		return nil
	case !slices.Contains(Workloads, s.Kind):
		return invalid("selector.workload.kind", "%q must be one of: %s", s.Kind, join(Workloads))
	case len(s.Name) > maxSubdomain || !dnsSubdomain.MatchString(s.Name):
		return invalid("selector.workload.name", "%q can't be the name of a workload", s.Name)
	case s.Namespace == "":
		return invalid("selector.namespace", "is missing; a workload is in a namespace")
	}
	return nil
}

// CreateBatch queues a selection for each agent. It answers as Create does.
func (q *Queue) CreateBatch(ctx context.Context, r BatchRequest) (Batch, error) {
	if r.Key == (Key{}) {
		return q.createBatch(ctx, r)
	}
	b, err := q.cfg.Store.BatchByKey(ctx, r.Key, time.Now())
	if errors.Is(err, ErrNotFound) {
		b, err = q.createBatch(ctx, r)
		if errors.Is(err, ErrKeyUsed) {
			b, err = q.cfg.Store.BatchByKey(ctx, r.Key, time.Now())
		}
	}
	for _, s := range b.Selections {
		if err == nil {
			err = r.permit(s.Request.Target)
		}
	}
	return q.explainBatch(b), err
}

func (q *Queue) createBatch(ctx context.Context, r BatchRequest) (Batch, error) {
	if err := r.Selector.validate(); err != nil {
		return Batch{}, err
	}
	agents, err := q.selected(ctx, r)
	if err != nil {
		return Batch{}, err
	}
	if err := q.validateRun(&r.Request); err != nil {
		return Batch{}, err
	}
	profile, threshold, err := q.pin(ctx, r.Request)
	if err != nil {
		return Batch{}, err
	}
	b := Batch{ID: BatchID(uuid.Must(uuid.NewV7()).String()), RequestedBy: r.RequestedBy, Created: storeTime()}
	for _, agent := range agents {
		r.Target = Target{Agent: agent, Namespace: r.Selector.Namespace}
		s := q.newScan(r.Request, profile, threshold, b.Created)
		s.Request.Key, s.Batch, s.Selector, s.Progress.Total = Key{}, b.ID, &r.Selector, 0
		b.Selections = append(b.Selections, s)
	}
	if err := q.cfg.Store.CreateBatch(ctx, b, r.Key); err != nil {
		return Batch{}, fmt.Errorf("create batch: %w", err)
	}
	return q.explainBatch(b), nil
}

// selected are the agents that a batch is for.
func (q *Queue) selected(ctx context.Context, r BatchRequest) ([]fleet.AgentName, error) {
	agents, err := q.cfg.Agents.ScanTargets(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	maps.DeleteFunc(agents, func(_ fleet.AgentName, kinds []string) bool { return !slices.Contains(kinds, KindContainer) })
	names := slices.Sorted(maps.Keys(agents))
	if len(names) == 0 {
		return nil, invalid("selector.agents", "no agent that has joined allows targets of the kind %q", KindContainer)
	}
	r.Target = Target{Namespace: r.Selector.Namespace}
	permitted, refused := r.permitted(names)
	for i, name := range r.Agents {
		if err := r.permit(Target{Agent: name, Namespace: r.Selector.Namespace}); err != nil {
			return nil, err
		}
		if !slices.Contains(permitted, name) {
			return nil, invalid(fmt.Sprintf("selector.agents[%d]", i), "there is no agent %q that allows containers; %s", name, near.Instead(name, permitted))
		}
	}
	switch {
	case len(r.Agents) > 0:
		return slices.Compact(slices.Sorted(slices.Values(r.Agents))), nil
	case len(permitted) == 0:
		return nil, refused
	}
	return permitted, nil
}

// Batch returns a batch, or ErrNoBatch.
func (q *Queue) Batch(ctx context.Context, id BatchID) (Batch, error) {
	b, err := q.cfg.Store.Batch(ctx, id)
	if err != nil {
		return Batch{}, fmt.Errorf("batch %s: %w", id, err)
	}
	return q.explainBatch(b), nil
}

func (q *Queue) explainBatch(b Batch) Batch {
	for i := range b.Selections {
		b.Selections[i] = q.explain(b.Selections[i])
	}
	return b
}

// CancelBatch ends what isn't finished of a batch, and returns it.
func (q *Queue) CancelBatch(ctx context.Context, id BatchID, by string) (Batch, error) {
	if _, err := q.cfg.Store.CancelBatch(ctx, id, "cancelled by "+by, time.Now()); err != nil {
		return Batch{}, fmt.Errorf("cancel batch %s: %w", id, err)
	}
	return q.Batch(ctx, id)
}

// Expand takes what a peer's selection has found. It returns nil once the
// scans of that are queued; again it is ErrFinished.
func (q *Queue) Expand(ctx context.Context, peer fleet.Peer, id ID, attempt int, found []Target) error {
	s, err := q.cfg.Store.Scan(ctx, id)
	if err == nil {
		err = s.takes(peer, attempt)
	}
	if err == nil && s.Selector == nil {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("expand scan %s: %w", id, err)
	}
	now := storeTime()
	f := Finish{ID: id, Agent: peer.Agent, Attempt: attempt, Status: Completed, Reason: fmt.Sprintf("%d containers were found", len(found))}
	scans := make([]Scan, 0, len(found))
	for _, t := range found {
		t.Agent, t.URI = peer.Agent, ""
		// The namespace was decided when the batch was asked for.
		if err := t.validate(); err != nil || len(found) > MaxSelected || s.Selector.Namespace != "" && t.Namespace != s.Selector.Namespace {
			f.Status, f.Reason = Error, "what the agent found isn't what was asked for, or more than there may be"
			scans = nil
			break
		}
		c := s
		c.ID, c.Status, c.Attempt, c.Created, c.Started, c.Lease, c.Reason = NewID(), Queued, 0, now, time.Time{}, Lease{}, ""
		c.Expires, c.Selector, c.Request.Target, c.Counts = now.Add(q.cfg.QueueFor), nil, t, hdf.Counts{}
		scans = append(scans, c)
	}
	if err := q.cfg.Store.ExpandScan(ctx, f, scans, now); err != nil {
		return fmt.Errorf("expand scan %s: %w", id, err)
	}
	q.cfg.Logger.InfoContext(ctx, "selection ended", "scan", id, "agent", peer.Agent, "found", len(found), "status", f.Status)
	return nil
}
