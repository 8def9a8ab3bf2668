// Package kube makes targets of containers in Kubernetes. There are three ways
// in (Method):
//
//   - exec of the container's own /bin/sh: a connection to the API server
//     (WebSocket, or SPDY where that is all it speaks) that carries every
//     command of the scan; a few more of them when commands run side by side.
//     Needed are, on the one pod, get of pods, and get and create of pods/exec.
//   - a sidecar that the pod's author put there, which runs reeve-scanner wait
//     and shares its processes with the others: exec of reeve-scanner enter in
//     it (package inside). It needs the same.
//   - an ephemeral container with the same program, which the scan adds to the
//     pod and which ends with it. It needs patch of pods/ephemeralcontainers, too.
//
// Nothing is listed. With Accounts each scan has a service account of its own,
// which may do this to its one pod and to nothing else.
package kube

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Scheme is what the URI of a container begins with.
const Scheme = "k8s-container"

var (
	// ErrNotFound says that there is no such pod or container.
	ErrNotFound = errors.New("not found")
	// ErrNotRunning says that the container isn't running.
	ErrNotRunning = errors.New("not running")
	// ErrNoShell says that the container has no /bin/sh.
	ErrNoShell = errors.New("no shell")
	// ErrForbidden says that the cluster's RBAC doesn't allow the scan.
	ErrForbidden = errors.New("forbidden")
	// ErrRefused says that the cluster's admission doesn't allow it; it is an
	// ErrForbidden, too.
	ErrRefused = fmt.Errorf("%w by admission", ErrForbidden)
	// ErrNoScanner says that there is no sidecar, or that the ephemeral
	// container didn't come up.
	ErrNoScanner = errors.New("no scanner in the pod")
)

// Error says why a container could not be entered, and what to do. It is one
// of this package's sentinels.
type Error struct {
	Kind error
	Text string
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Kind }

var name = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// URI names a container.
func URI(namespace, pod, container string) string {
	return Scheme + "://" + namespace + "/" + pod + "/" + container
}

// ParseURI takes k8s-container://NAMESPACE/POD/CONTAINER apart. Without a
// container it is empty, and Open takes the pod's default one.
func ParseURI(uri string) (namespace, pod, container string, err error) {
	rest, ok := strings.CutPrefix(uri, Scheme+"://")
	parts := strings.Split(strings.TrimSuffix(rest, "/"), "/")
	if !ok || len(parts) < 2 || len(parts) > 3 {
		return "", "", "", fmt.Errorf("target %q: write %s://NAMESPACE/POD/CONTAINER", uri, Scheme)
	}
	for i, part := range parts {
		if !name.MatchString(part) {
			what := []string{"namespace", "pod", "container"}[i]
			return "", "", "", fmt.Errorf("target %q: %q can't be the name of a %s; write %s://NAMESPACE/POD/CONTAINER", uri, part, what, Scheme)
		}
	}
	if len(parts) == 3 {
		container = parts[2]
	}
	return parts[0], parts[1], container, nil
}

// Config finds the cluster as kubectl does: kubeconfig, or KUBECONFIG, or
// ~/.kube/config, with the named context or the current one; with none of them
// inside a pod, its service account.
func Config(kubeconfig, context string) (*rest.Config, error) {
	if kubeconfig != "" {
		if _, err := os.Stat(kubeconfig); err != nil {
			return nil, fmt.Errorf("kubeconfig: %w", err)
		}
	}
	config, err := load(kubeconfig, context).ClientConfig()
	if err != nil {
		return nil, configError(err)
	}
	config.WarningHandler = rest.NoWarnings{}
	return config, nil
}

func load(kubeconfig, context string) clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context})
}

// Home is the namespace of the account whose rights Config has: the kubeconfig's,
// or the pod's; default where neither says.
func Home(kubeconfig string) (string, error) { return Namespace(kubeconfig, "") }

// Namespace is the one of a kubeconfig's context, or of its current one; default
// where it names none.
func Namespace(kubeconfig, context string) (string, error) {
	namespace, _, err := load(kubeconfig, context).Namespace()
	if err != nil {
		return "", configError(err)
	}
	return namespace, nil
}

func configError(err error) error {
	if clientcmd.IsEmptyConfig(err) {
		return errors.New("no cluster is configured: name a kubeconfig file, set KUBECONFIG, or run inside a pod with a service account")
	}
	return fmt.Errorf("kubeconfig: %w", err)
}

func podError(err error, namespace, pod string) error {
	switch {
	case apierrors.IsNotFound(err):
		return &Error{ErrNotFound, fmt.Sprintf("pod %s/%s not found; kubectl get pods --namespace %s lists those that are there", namespace, pod, namespace)}
	case apierrors.IsForbidden(err):
		return &Error{ErrForbidden, fmt.Sprintf("the cluster forbids the verb get on the resource pods (pod %s/%s); grant it in a Role with resourceNames [%s]: %v", namespace, pod, pod, err)}
	case apierrors.IsUnauthorized(err):
		return &Error{ErrForbidden, fmt.Sprintf("the cluster doesn't accept the credentials of the kubeconfig or service account: %v", err)}
	}
	return fmt.Errorf("pod %s/%s: %w", namespace, pod, err)
}

// containers lists the names of all containers of a pod that could be entered.
func containers(pod *corev1.Pod) []string {
	var names []string
	for _, c := range pod.Spec.Containers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		names = append(names, c.Name)
	}
	return names
}

func defaultContainer(pod *corev1.Pod) (string, error) {
	if c := pod.Annotations["kubectl.kubernetes.io/default-container"]; c != "" {
		return c, nil
	}
	if len(pod.Spec.Containers) == 1 {
		return pod.Spec.Containers[0].Name, nil
	}
	return "", &Error{ErrNotFound, fmt.Sprintf("pod %s/%s has several containers: name one of %s", pod.Namespace, pod.Name, strings.Join(containers(pod), ", "))}
}

// running answers the status of a container that runs.
func running(pod *corev1.Pod, container string) (*corev1.ContainerStatus, error) {
	id := idOf(pod, container)
	for _, st := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses) {
		if st.Name != container {
			continue
		}
		switch {
		case st.State.Running != nil:
			return &st, nil
		case st.State.Waiting != nil:
			return nil, &Error{ErrNotRunning, fmt.Sprintf("%s is not running: it waits (%s); scan it once it runs", id, st.State.Waiting.Reason)}
		case st.State.Terminated != nil:
			return nil, &Error{ErrNotRunning, fmt.Sprintf("%s is not running: it ended with exit code %d (%s)", id, st.State.Terminated.ExitCode, st.State.Terminated.Reason)}
		}
	}
	names := containers(pod)
	for _, n := range names {
		if n == container {
			return nil, &Error{ErrNotRunning, fmt.Sprintf("%s is not running: the pod is %s", id, pod.Status.Phase)}
		}
	}
	return nil, &Error{ErrNotFound, fmt.Sprintf("pod %s/%s has no container %s; it has %s", pod.Namespace, pod.Name, container, strings.Join(names, ", "))}
}

// idOf names a container for a person.
func idOf(pod *corev1.Pod, container string) string {
	return fmt.Sprintf("container %s of pod %s/%s", container, pod.Namespace, pod.Name)
}
