package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"reeve.dev/reeve/internal/kubeapi"
)

// Selection chooses running containers; the zero value of a member chooses
// all.
type Selection struct {
	Namespace string
	// Labels are a label selector of pods.
	Labels string
	// Kind and Name are of the workload that the pods belong to: a
	// Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob; or of a
	// Pod.
	Kind, Name string
	// Container is the name of the containers; of a Pod its default one, if none
	// is named.
	Container string
}

// Container is one that was selected.
type Container struct{ Namespace, Pod, Name string }

// pageSize is how many pods are asked for at a time.
const pageSize = 500

// Select lists the running containers that s chooses; more than limit are an
// error. It needs the verb list on pods, in the namespace or everywhere, and
// nothing else: which workload a pod belongs to, its owner references tell.
func Select(ctx context.Context, config *rest.Config, s Selection, limit int) ([]Container, error) {
	client, err := kubeapi.New(config)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	fields := "status.phase=Running"
	if s.Kind == "Pod" {
		fields += ",metadata.name=" + s.Name
	}
	var out []Container
	for page := ""; ; {
		r := client.Get().Resource("pods").Param("limit", strconv.Itoa(pageSize)).Param("fieldSelector", fields)
		if s.Namespace != "" {
			r = r.Namespace(s.Namespace)
		}
		if s.Labels != "" {
			r = r.Param("labelSelector", s.Labels)
		}
		if page != "" {
			r = r.Param("continue", page)
		}
		var list corev1.PodList
		if err := r.Do(ctx).Into(&list); err != nil {
			return nil, listError(err, s)
		}
		for i := range list.Items {
			pod, of := &list.Items[i], s
			if s.Kind == "Pod" && s.Container == "" && pod.Name == s.Name {
				if of.Container, err = defaultContainer(pod); err != nil {
					return nil, err
				}
			}
			out = append(out, of.of(pod)...)
			if len(out) > limit {
				return nil, fmt.Errorf("more than %d containers: choose fewer, by namespace or labels", limit)
			}
		}
		if page = list.Continue; page == "" {
			return out, nil
		}
	}
}

func listError(err error, s Selection) error {
	where := "all namespaces"
	if s.Namespace != "" {
		where = "namespace " + s.Namespace
	}
	switch {
	case apierrors.IsForbidden(err):
		return &Error{ErrForbidden, fmt.Sprintf("the cluster forbids the verb list on the resource pods in %s: %v", where, err)}
	case apierrors.IsUnauthorized(err):
		return &Error{ErrForbidden, fmt.Sprintf("the cluster doesn't accept the credentials of the kubeconfig or service account: %v", err)}
	}
	return fmt.Errorf("list the pods of %s: %w", where, err)
}

// of are the containers of a pod that s chooses.
func (s Selection) of(pod *corev1.Pod) (out []Container) {
	if pod.DeletionTimestamp != nil || s.Kind != "" && !owned(pod, s.Kind, s.Name) {
		return nil
	}
	for _, st := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if st.State.Running != nil && (s.Container == "" || s.Container == st.Name) {
			out = append(out, Container{pod.Namespace, pod.Name, st.Name})
		}
	}
	return out
}

// owned reports whether a pod belongs to a workload, or is that Pod. That of a Deployment's
// ReplicaSet is named DEPLOYMENT-HASH, with the hash in a label of the pod,
// and that of a CronJob's Job CRONJOB-MINUTES.
func owned(pod *corev1.Pod, kind, name string) bool {
	if kind == "Pod" {
		return pod.Name == name
	}
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return false
	}
	switch kind {
	case "Deployment":
		hash := pod.Labels["pod-template-hash"]
		return owner.Kind == "ReplicaSet" && hash != "" && owner.Name == name+"-"+hash
	case "CronJob":
		minutes, ok := strings.CutPrefix(owner.Name, name+"-")
		return owner.Kind == "Job" && ok && minutes != "" && strings.Trim(minutes, "0123456789") == ""
	}
	return owner.Kind == kind && owner.Name == name
}

// Transient reports whether an error is of the way to the API server or of its
// state, so that another attempt may not have it.
func Transient(err error) bool {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		code := status.Status().Code
		return code == 429 || code >= 500
	}
	var way net.Error
	return errors.As(err, &way)
}
