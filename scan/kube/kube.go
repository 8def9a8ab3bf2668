// Package kube makes targets of containers in Kubernetes.
//
// A container is entered by exec of /bin/sh in it: a connection to the API
// server (WebSocket, or SPDY where that is all it speaks) that carries every
// command of the scan; a few more of them when commands run side by side. Needed are, on the one pod, get of pods and get and
// create of pods/exec; nothing is listed and nothing is created.
package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/internal/kubeapi"
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
)

// Error says why a container could not be entered, and what to do. It is one
// of this package's sentinels.
type Error struct {
	Kind error
	Text string
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Kind }

// Options bound what a scan does in a container. The zero value is good.
type Options struct {
	// CommandTimeout bounds each command; zero means target.CommandTimeout.
	CommandTimeout time.Duration
}

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
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if kubeconfig != "" {
		if _, err := os.Stat(kubeconfig); err != nil {
			return nil, fmt.Errorf("kubeconfig: %w", err)
		}
		rules.ExplicitPath = kubeconfig
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context}).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, fmt.Errorf("no cluster is configured: name a kubeconfig file, set KUBECONFIG, or run inside a pod with a service account")
	}
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	config.WarningHandler = rest.NoWarnings{}
	return config, nil
}

// Open enters a running container; with container empty, the pod's default
// one. ctx governs the opening alone; the target holds its connection until it
// is closed.
func Open(ctx context.Context, config *rest.Config, namespace, pod, container string, opt Options) (target.Target, error) {
	client, err := kubeapi.New(config)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	found := &corev1.Pod{}
	if err := client.Get().Namespace(namespace).Resource("pods").Name(pod).Do(ctx).Into(found); err != nil {
		return nil, podError(err, namespace, pod)
	}
	if container == "" {
		if container, err = defaultContainer(found); err != nil {
			return nil, err
		}
	}
	if err := checkRunning(found, container); err != nil {
		return nil, err
	}
	exec, err := executor(config, client, namespace, pod, container)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	s := start(context.WithoutCancel(ctx), exec)
	t, err := target.NewShell(ctx, s.stdin, s.stdout, s.stderr, target.ShellConfig{
		URI: URI(namespace, pod, container), Timeout: opt.CommandTimeout, Close: s.close, Gathered: true,
		More: func(ctx context.Context) (target.Streams, error) {
			// An executor holds its connection: each stream has its own.
			exec, err := executor(config, client, namespace, pod, container)
			if err != nil {
				return target.Streams{}, err
			}
			s := start(context.WithoutCancel(ctx), exec)
			return target.Streams{Stdin: s.stdin, Stdout: s.stdout, Stderr: s.stderr, Close: s.close}, nil
		},
	})
	if err != nil {
		return nil, s.explain(ctx, err, namespace, pod, container)
	}
	return t, nil
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

func checkRunning(pod *corev1.Pod, container string) error {
	id := fmt.Sprintf("container %s of pod %s/%s", container, pod.Namespace, pod.Name)
	all := pod.Status.ContainerStatuses
	all = append(all[:len(all):len(all)], pod.Status.InitContainerStatuses...)
	all = append(all, pod.Status.EphemeralContainerStatuses...)
	for _, st := range all {
		if st.Name != container {
			continue
		}
		switch {
		case st.State.Running != nil:
			return nil
		case st.State.Waiting != nil:
			return &Error{ErrNotRunning, fmt.Sprintf("%s is not running: it waits (%s); scan it once it runs", id, st.State.Waiting.Reason)}
		case st.State.Terminated != nil:
			return &Error{ErrNotRunning, fmt.Sprintf("%s is not running: it ended with exit code %d (%s)", id, st.State.Terminated.ExitCode, st.State.Terminated.Reason)}
		}
	}
	names := containers(pod)
	for _, n := range names {
		if n == container {
			return &Error{ErrNotRunning, fmt.Sprintf("%s is not running: the pod is %s", id, pod.Status.Phase)}
		}
	}
	return &Error{ErrNotFound, fmt.Sprintf("pod %s/%s has no container %s; it has %s", pod.Namespace, pod.Name, container, strings.Join(names, ", "))}
}

func executor(config *rest.Config, client rest.Interface, namespace, pod, container string) (remotecommand.Executor, error) {
	url := client.Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec").
		Param("container", container).
		Param("command", "/bin/sh").Param("command", "-c").Param("command", target.Gathering).
		Param("stdin", "true").Param("stdout", "true").Param("stderr", "true").URL()
	ws, err := remotecommand.NewWebSocketExecutor(config, "GET", url.String())
	if err != nil {
		return nil, err
	}
	spdy, err := remotecommand.NewSPDYExecutor(config, "POST", url)
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(ws, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
}

// session is one exec under way.
type session struct {
	stdin          *io.PipeWriter
	stdout, stderr *io.PipeReader
	cancel         context.CancelFunc
	done           chan struct{}
	err            error // of the exec; set before done is closed
}

func start(ctx context.Context, exec remotecommand.Executor) *session {
	ctx, cancel := context.WithCancel(ctx)
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	errR, errW := io.Pipe()
	s := &session{stdin: inW, stdout: outR, stderr: errR, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.err = exec.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: inR, Stdout: outW, Stderr: errW})
		inR.Close()
		outW.Close()
		errW.Close()
	}()
	return s
}

// close lets the shell end by the end of its input, and cuts the connection
// when it doesn't.
func (s *session) close() error {
	s.stdin.Close()
	select {
	case <-s.done:
	case <-time.After(2 * time.Second):
	}
	s.cancel()
	s.stdout.Close()
	s.stderr.Close()
	<-s.done
	return nil
}

// explain says why no shell came; the exec has ended.
func (s *session) explain(ctx context.Context, err error, namespace, pod, container string) error {
	if ctx.Err() != nil {
		return err
	}
	id := fmt.Sprintf("container %s of pod %s/%s", container, namespace, pod)
	<-s.done
	var exit utilexec.CodeExitError
	text := fmt.Sprint(s.err)
	switch {
	case s.err == nil:
		return fmt.Errorf("%s: %w", id, err)
	case apierrors.IsForbidden(s.err), strings.Contains(text, "is forbidden"):
		return &Error{ErrForbidden, fmt.Sprintf("the cluster forbids exec into %s; grant the verbs get and create on the resource pods/exec in a Role with resourceNames [%s]: %v", id, pod, s.err)}
	case errors.As(s.err, &exit) && (exit.Code == 126 || exit.Code == 127), noProgram.MatchString(text):
		return &Error{ErrNoShell, fmt.Sprintf("%s has no /bin/sh, as a distroless image has none: it can't be scanned by exec, and scanning it by an ephemeral container isn't there yet; scan its unpacked root filesystem with dir:PATH meanwhile", id)}
	}
	return fmt.Errorf("exec into %s: %w", id, s.err)
}

// noProgram is what container runtimes say when there is no such program.
var noProgram = regexp.MustCompile(`(?i)executable file not found|exec: "?/bin/sh"?.*no such file|no such file or directory.*exec|stat /bin/sh: no such file`)
