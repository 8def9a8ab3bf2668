package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

// Annotated are the namespaces that have an annotation, with its value. It is for
// who may list namespaces: apierrors.IsForbidden tells others.
func (w *Watcher) Annotated(ctx context.Context, annotation string) (map[string]string, error) {
	list, err := w.list(ctx, "/api/v1/namespaces")
	out := map[string]string{}
	for _, n := range list {
		if value := n.Annotations[annotation]; value != "" {
			out[n.Name] = value
		}
	}
	return out, err
}

// CronJobs are the names of those that there are, in order, by namespace. It is for
// who may list them: apierrors.IsForbidden tells others.
func (w *Watcher) CronJobs(ctx context.Context) (map[string][]string, error) {
	list, err := w.list(ctx, "/apis/batch/v1/cronjobs")
	out := map[string][]string{}
	for _, n := range list {
		out[n.Namespace] = append(out[n.Namespace], n.Name)
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out, err
}

// named is what is read of an object.
type named struct {
	Namespace   string            `json:"namespace"`
	Name        string            `json:"name"`
	Annotations map[string]string `json:"annotations"`
}

// list asks for the objects of a kind: from the API server's own memory, and without
// their other members.
func (w *Watcher) list(ctx context.Context, path string) (out []named, err error) {
	text, err := w.client.Get().AbsPath(path).Param("resourceVersion", "0").
		SetHeader("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").Do(ctx).Raw()
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			Metadata named `json:"metadata"`
		} `json:"items"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("list of %s: %w", path, err)
	}
	for _, item := range list.Items {
		out = append(out, item.Metadata)
	}
	return out, nil
}
