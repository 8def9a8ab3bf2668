package kube

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// resync is how often every object is looked at without a change of its own,
// for what changed beside it.
const resync = 10 * time.Minute

// The pauses after a failed sync double from one to the other.
const (
	minRetry = 200 * time.Millisecond
	maxRetry = 2 * time.Minute
)

// controller calls sync for each object of a kind that a label selects, when
// it appears and when it changes, as many at a time as there are workers.
type controller struct {
	name      string
	resource  schema.GroupVersionResource
	client    metadata.Interface
	namespace string
	selector  string
	// keep names the annotations that sync wants; the others, which may be
	// as large as the object, don't stay in memory.
	keep    []string
	workers int // 0 is one
	sync    func(context.Context, *metav1.PartialObjectMetadata) (again time.Duration, err error)
	log     *slog.Logger
}

func (c *controller) run(ctx context.Context) error {
	queue := workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](minRetry, maxRetry),
		workqueue.TypedRateLimitingQueueConfig[string]{Name: c.name})
	informer := cache.NewSharedIndexInformer(c.source(), &metav1.PartialObjectMetadata{}, resync, cache.Indexers{})
	err := errors.Join(
		informer.SetTransform(c.trim),
		informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
			c.log.Warn("watch interrupted, will retry", "resource", c.resource.Resource, "error", err)
		}))
	if err != nil {
		return err
	}
	add := func(obj any) {
		if key, err := cache.MetaNamespaceKeyFunc(obj); err == nil {
			queue.Add(key)
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    add,
		UpdateFunc: func(_, obj any) { add(obj) },
	}); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { informer.RunWithContext(ctx) })
	for range max(c.workers, 1) {
		wg.Go(func() {
			for c.next(ctx, queue, informer.GetStore()) {
			}
		})
	}
	<-ctx.Done()
	queue.ShutDown()
	wg.Wait()
	return context.Cause(ctx)
}

// source lists and watches what the label selects.
func (c *controller) source() cache.ListerWatcher {
	objects := c.client.Resource(c.resource).Namespace(c.namespace)
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = c.selector
			return objects.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = c.selector
			return objects.Watch(ctx, o)
		},
	}, c.client)
}

// next syncs one object; false means that the queue has been shut down.
func (c *controller) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string], store cache.Store) bool {
	key, shutdown := queue.Get()
	if shutdown {
		return false
	}
	defer queue.Done(key)
	obj, exists, err := store.GetByKey(key)
	if err != nil || !exists {
		queue.Forget(key)
		return true
	}
	again, err := c.sync(ctx, obj.(*metav1.PartialObjectMetadata))
	switch {
	case ctx.Err() != nil:
	case err != nil:
		c.log.Warn("sync failed, will retry", "resource", c.resource.Resource, "object", key, "error", err)
		queue.AddRateLimited(key)
		return true
	case again > 0:
		queue.AddAfter(key, again)
	}
	queue.Forget(key)
	return true
}

func (c *controller) trim(obj any) (any, error) {
	m, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return obj, nil
	}
	m.ManagedFields = nil
	for k := range m.Annotations {
		if !slices.Contains(c.keep, k) {
			delete(m.Annotations, k)
		}
	}
	return m, nil
}
