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
	// BurnAfterReading deletes the ConfigMaps that were taken.
	BurnAfterReading bool
	DeferFor         time.Duration
	Logger           *slog.Logger
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
		keep: []string{lagoon.AnnotationProcessed},
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
	if _, taken := m.Annotations[lagoon.AnnotationProcessed]; taken {
		return 0, w.burn(ctx, m)
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

func (w *Watcher) burn(ctx context.Context, m *metav1.PartialObjectMetadata) error {
	if !w.cfg.BurnAfterReading {
		return nil
	}
	err := w.cfg.Client.DeleteConfigMap(ctx, m.Namespace, m.Name,
		// Exactly what was taken: one that has been replaced is another one.
		metav1.Preconditions{UID: &m.UID, ResourceVersion: &m.ResourceVersion})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // its change is on its way to the cache
	}
	return err
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
	message, err := json.Marshal(messageOf(cm, ns))
	if err != nil {
		return err
	}
	id := "configmap/" + string(cm.UID) + "/" + cm.ResourceVersion
	if err := w.cfg.Spool.Put(ctx, id, insight.SpoolKind, bytes.NewReader(message)); err != nil {
		return w.deferWrite(ctx, cm, err)
	}
	now := time.Now().UTC().Format(time.RFC3339)
	return w.patch(ctx, cm.Namespace, cm.Name, cm.ResourceVersion, patch{
		Annotations: map[string]*string{lagoon.AnnotationProcessed: &now},
	})
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

// deferWrite labels a ConfigMap that the spool didn't take. It is never given
// up: a hub may be away for longer than any number of retries.
func (w *Watcher) deferWrite(ctx context.Context, cm *corev1.ConfigMap, why error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(why, spool.ErrTooLarge) {
		w.cfg.Logger.Error("ConfigMap is larger than the spool; raise the spool's limit", "namespace", cm.Namespace, "configmap", cm.Name, "error", why)
	} else {
		w.cfg.Logger.Warn("ConfigMap not taken, will retry", "namespace", cm.Namespace, "configmap", cm.Name, "in", w.cfg.DeferFor, "error", why)
	}
	retries, _ := strconv.Atoi(cm.Annotations[lagoon.AnnotationRetries]) // what isn't a number counts as 0
	count := strconv.Itoa(retries + 1)
	until := strconv.FormatInt(time.Now().Add(w.cfg.DeferFor).Unix(), 10)
	return w.patch(ctx, cm.Namespace, cm.Name, cm.ResourceVersion, patch{
		Labels:      map[string]*string{lagoon.LabelWriteDeferred: &until},
		Annotations: map[string]*string{lagoon.AnnotationRetries: &count},
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
