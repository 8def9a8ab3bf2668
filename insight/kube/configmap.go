package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/internal/spool"
)

// DefaultDeferFor is how long a ConfigMap waits that couldn't be taken.
const DefaultDeferFor = 5 * time.Minute

// Spool takes a message and returns once it is durable.
type Spool interface {
	Put(ctx context.Context, id, kind string, r io.Reader) error
}

// Config is what a Watcher works with. Client, Metadata, Spool and Logger are
// required.
type Config struct {
	Client   Client
	Metadata metadata.Interface
	// Namespace narrows the watch to one namespace; empty means all.
	Namespace string
	Spool     Spool
	// BurnAfterReading deletes the ConfigMaps that were taken, at once or at the
	// next of the times of BurnAt.
	BurnAfterReading bool
	BurnAt           Schedule
	DeferFor         time.Duration
	// MaxRetries is how often a ConfigMap is tried again; 0 is for ever.
	MaxRetries int
	// Concurrent is how many ConfigMaps are looked at at once; 0 is one.
	Concurrent int
	// ToCore says which ConfigMaps go to Lagoon's broker.
	ToCore ToCore
	Logger *slog.Logger
}

// Schedule has times, such as a cron line's.
type Schedule interface{ Next(time.Time) time.Time }

// ToCore says which ConfigMaps go to Lagoon's broker. The zero value is for an
// agent that has both a broker and a hub: those that are annotated
// core.insights.lagoon.sh/enabled go to both, others to the hub.
type ToCore struct {
	// All are sent, whatever their annotations.
	All bool
	// Only tells that there is no hub: what isn't sent to the broker is nobody's,
	// and counts as taken, as insights-remote has it.
	Only bool
}

// Watcher takes the insights of labelled ConfigMaps.
type Watcher struct{ cfg Config }

// NewWatcher makes a Watcher.
func NewWatcher(cfg Config) *Watcher {
	if cfg.DeferFor <= 0 {
		cfg.DeferFor = DefaultDeferFor
	}
	return &Watcher{cfg}
}

// Run watches until ctx is done, whose cause it returns. Whatever goes wrong
// in between is logged and tried again.
func (w *Watcher) Run(ctx context.Context) error {
	c := &controller{
		name:     "configmaps",
		resource: corev1.SchemeGroupVersion.WithResource("configmaps"),
		client:   w.cfg.Metadata, namespace: w.cfg.Namespace, selector: lagoon.LabelInsightsType,
		keep: []string{lagoon.AnnotationProcessed}, workers: max(w.cfg.Concurrent, 1),
		sync: w.sync, log: w.cfg.Logger,
	}
	return c.run(ctx)
}

// sync looks at one ConfigMap, as the cache knows it, and brings it into its
// next state. It returns when to look again; 0 means at its next change.
func (w *Watcher) sync(ctx context.Context, m *metav1.PartialObjectMetadata) (time.Duration, error) {
	if m.DeletionTimestamp != nil {
		return 0, nil
	}
	if at, taken := m.Annotations[lagoon.AnnotationProcessed]; taken {
		return w.burn(ctx, m, at)
	}
	if _, given := m.Labels[lagoon.LabelMaxRetry]; given {
		return 0, nil
	}
	if until, deferred := m.Labels[lagoon.LabelWriteDeferred]; deferred {
		return w.resume(ctx, m, until)
	}
	if lagoon.TypeOf(m.Labels) == "" {
		w.cfg.Logger.Warn("ConfigMap ignored: its labels name neither an SBOM nor an image inspect",
			"namespace", m.Namespace, "configmap", m.Name,
			lagoon.LabelInsightsType, m.Labels[lagoon.LabelInsightsType], lagoon.LabelType, m.Labels[lagoon.LabelType])
		return 0, nil
	}
	return 0, w.take(ctx, m)
}

// burn deletes a ConfigMap that was taken at a time, if it is due.
func (w *Watcher) burn(ctx context.Context, m *metav1.PartialObjectMetadata, taken string) (time.Duration, error) {
	if !w.cfg.BurnAfterReading {
		return 0, nil
	}
	if at, err := time.Parse(time.RFC3339, taken); err == nil && w.cfg.BurnAt != nil {
		if d := time.Until(w.cfg.BurnAt.Next(at.Local())); d > 0 {
			return d, nil
		}
	}
	err := w.cfg.Client.DeleteConfigMap(ctx, m.Namespace, m.Name,
		// Exactly what was taken: one that has been replaced is another one.
		metav1.Preconditions{UID: &m.UID, ResourceVersion: &m.ResourceVersion})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return 0, nil // its change is on its way to the cache
	}
	return 0, err
}

// resume removes the label of a ConfigMap that has waited long enough. A
// label that isn't a time has.
func (w *Watcher) resume(ctx context.Context, m *metav1.PartialObjectMetadata, until string) (time.Duration, error) {
	if sec, err := strconv.ParseInt(until, 10, 64); err == nil {
		if d := time.Until(time.Unix(sec, 0)); d > 0 {
			return d, nil
		}
	}
	return 0, w.patch(ctx, m.Namespace, m.Name, m.ResourceVersion, patch{
		Labels: map[string]*string{lagoon.LabelWriteDeferred: nil},
	})
}

// take spools the ConfigMap as it is at the API server now.
func (w *Watcher) take(ctx context.Context, m *metav1.PartialObjectMetadata) error {
	cm, err := w.cfg.Client.ConfigMap(ctx, m.Namespace, m.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, taken := cm.Annotations[lagoon.AnnotationProcessed]; taken || lagoon.TypeOf(cm.Labels) == "" {
		return nil // the cache is behind
	}
	ns, err := w.cfg.Client.Namespace(ctx, cm.Namespace)
	if err != nil {
		return err
	}
	if err := w.spool(ctx, cm, ns); err != nil {
		return w.deferWrite(ctx, cm, err)
	}
	now, success, retries := time.Now().UTC().Format(time.RFC3339), "success", strconv.Itoa(retriesOf(cm))
	return w.patch(ctx, cm.Namespace, cm.Name, cm.ResourceVersion, patch{
		Annotations: map[string]*string{
			lagoon.AnnotationProcessed: &now, lagoon.AnnotationRetries: &retries,
			lagoon.AnnotationCoreStatus: &success, lagoon.AnnotationCoreError: nil,
		},
	})
}

// spool hands over the message of a ConfigMap, if it is for anybody.
func (w *Watcher) spool(ctx context.Context, cm *corev1.ConfigMap, ns *corev1.Namespace) error {
	kind := insight.SpoolKind
	if cm.Annotations[lagoon.AnnotationCoreEnabled] != "true" && !w.cfg.ToCore.All {
		if w.cfg.ToCore.Only {
			w.cfg.Logger.Info("ConfigMap not sent: it isn't annotated", "namespace", cm.Namespace, "configmap", cm.Name, "annotation", lagoon.AnnotationCoreEnabled)
			return nil
		}
		kind = lagoon.SpoolHub
	}
	message, err := json.Marshal(messageOf(cm, ns))
	if err != nil {
		return err
	}
	id := "configmap/" + string(cm.UID) + "/" + cm.ResourceVersion
	return w.cfg.Spool.Put(ctx, id, kind, bytes.NewReader(message))
}

// retriesOf is how often a ConfigMap was tried in vain; what isn't a number
// counts as 0.
func retriesOf(cm *corev1.ConfigMap) int {
	n, _ := strconv.Atoi(cm.Annotations[lagoon.AnnotationRetries])
	return n
}

func messageOf(cm *corev1.ConfigMap, ns *corev1.Namespace) lagoon.ConfigMap {
	return lagoon.ConfigMap{
		Payload:       cm.Data,
		BinaryPayload: cm.BinaryData,
		Annotations:   cm.Annotations,
		Labels:        cm.Labels,
		Namespace:     cm.Namespace,
		Environment:   ns.Labels[lagoon.LabelEnvironment],
		Service:       cm.Labels[lagoon.LabelService],
		Project:       ns.Labels[lagoon.LabelProject],
		Type:          lagoon.TypeOf(cm.Labels),
	}
}

// deferWrite labels a ConfigMap that the spool didn't take. Unless MaxRetries
// says otherwise it is never given up: a hub or a broker may be away for longer
// than any number of retries.
func (w *Watcher) deferWrite(ctx context.Context, cm *corev1.ConfigMap, why error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	log := w.cfg.Logger.With("namespace", cm.Namespace, "configmap", cm.Name)
	retries := retriesOf(cm) + 1
	count, failure, text := strconv.Itoa(retries), "failure", why.Error()
	until := strconv.FormatInt(time.Now().Add(w.cfg.DeferFor).Unix(), 10)
	labels := map[string]*string{lagoon.LabelWriteDeferred: &until}
	switch {
	case w.cfg.MaxRetries > 0 && retries > w.cfg.MaxRetries:
		labels[lagoon.LabelMaxRetry] = new(lagoon.MaxRetryExceeded)
		log.Error("ConfigMap given up; take its label off to have it tried again", "label", lagoon.LabelMaxRetry, "retries", w.cfg.MaxRetries, "error", why)
	case errors.Is(why, spool.ErrTooLarge):
		log.Error("ConfigMap is larger than the spool; raise the spool's limit", "error", why)
	default:
		log.Warn("ConfigMap not taken, will retry", "in", w.cfg.DeferFor, "error", why)
	}
	return w.patch(ctx, cm.Namespace, cm.Name, cm.ResourceVersion, patch{
		Labels: labels,
		Annotations: map[string]*string{
			lagoon.AnnotationRetries: &count, lagoon.AnnotationCoreStatus: &failure, lagoon.AnnotationCoreError: &text,
		},
	})
}

// patch is a JSON merge patch of an object's metadata; null removes.
type patch struct {
	ResourceVersion string             `json:"resourceVersion"`
	Labels          map[string]*string `json:"labels,omitempty"`
	Annotations     map[string]*string `json:"annotations,omitempty"`
}

// patch changes the ConfigMap if it still has the version. One that has
// another, or is gone, is left as it is: its change is on its way to the
// cache, and with it the next sync.
func (w *Watcher) patch(ctx context.Context, namespace, name, version string, p patch) error {
	p.ResourceVersion = version
	body, err := json.Marshal(map[string]patch{"metadata": p})
	if err != nil {
		return err
	}
	err = w.cfg.Client.PatchConfigMap(ctx, namespace, name, body)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("annotate: %w", err)
	}
	return nil
}
