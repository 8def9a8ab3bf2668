package agent

import (
	"cmp"
	"context"
	"net/http"
	"reflect"
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
	// inventoryStale is when it is told again that nothing changed.
	inventoryStale = 5 * time.Minute
	// annotationsEvery is how often namespaces' annotations are read.
	annotationsEvery = time.Minute
)

// reportInventory tells the hub what runs, until ctx ends. Each report is
// whole, so one that is lost costs nothing but time.
func (a *Agent) reportInventory(ctx context.Context, watcher *scankube.Watcher) {
	log := a.component("inventory")
	client := &insightlink.Client{Base: scanlink.BaseURL, HTTP: &http.Client{Transport: a.up}, Logger: log}
	tick := time.NewTicker(inventoryEvery)
	defer tick.Stop()
	var last []insight.Workload
	var trouble string
	var sent, asked time.Time
	var said, told map[string]string // by namespaces of policies, and what the hub knows of that
	forbidden := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		running, pods, ok := watcher.Inventory()
		now := workloads(running, pods)
		broker := a.brokerTrouble()
		if ok && time.Since(asked) >= annotationsEvery {
			asked = time.Now()
			call, cancel := context.WithTimeout(ctx, callTimeout)
			found, err := watcher.Annotated(call, insight.PolicyAnnotation)
			cancel()
			switch {
			case err == nil && insight.CutAnnotations(found):
				said, forbidden = found, false
			case err == nil:
				log.WarnContext(ctx, "namespaces say more of policies than the hub takes; it keeps what it knows", "annotation", insight.PolicyAnnotation, "namespaces", len(found), "limit", insight.MaxAnnotated)
			case apierrors.IsForbidden(err):
				if !forbidden {
					log.InfoContext(ctx, "what namespaces' annotations say of policies isn't known: it needs the right to list namespaces", "annotation", insight.PolicyAnnotation)
				}
				forbidden = true
			default:
				log.WarnContext(ctx, "what namespaces' annotations say of policies isn't known, will retry", "annotation", insight.PolicyAnnotation, "error", err)
			}
		}
		if !ok || reflect.DeepEqual(now, last) && broker == trouble && reflect.DeepEqual(said, told) && time.Since(sent) < inventoryStale {
			continue
		}
		if len(now) > insight.MaxWorkloads {
			log.WarnContext(ctx, "more runs than the hub takes; it isn't told of the last by namespace", "workloads", len(now), "limit", insight.MaxWorkloads)
			now = now[:insight.MaxWorkloads]
		}
		waiting := a.insights.Stats()
		report := insight.Inventory{Workloads: now, Backlog: insight.Backlog{Items: waiting.Items, Bytes: waiting.Bytes, Since: waiting.Oldest, Broker: broker}, Policies: said}
		call, cancel := context.WithTimeout(ctx, callTimeout)
		err := client.SendInventory(call, report)
		cancel()
		if err != nil {
			log.WarnContext(ctx, "the hub doesn't know what runs, will retry", "error", err)
			continue
		}
		last, trouble, told, sent = now, broker, said, time.Now()
	}
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
