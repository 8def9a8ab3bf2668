package kube

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"

	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/internal/kubeapi"
)

// Method is a way into a container.
type Method string

// The methods. Auto, which is also the zero value, takes the first that works:
// exec if the container has a shell, else a sidecar if there is one, else an
// ephemeral container.
const (
	Auto      Method = "auto"
	Exec      Method = "exec"
	Sidecar   Method = "sidecar"
	Ephemeral Method = "ephemeral"
)

// Methods are all of them.
var Methods = []string{string(Auto), string(Exec), string(Ephemeral), string(Sidecar)}

// Options say how a container is entered. The zero value is good.
type Options struct {
	// CommandTimeout bounds each command; zero means target.CommandTimeout.
	CommandTimeout time.Duration
	Method         Method
	// Scanner is what an ephemeral container is made of.
	Scanner Scanner
	// Name is that of an ephemeral container; empty: a random one.
	Name string
	// Life bounds how long an ephemeral container is there; zero is an hour.
	Life time.Duration
}

// Entry is how a container was entered, and why so.
type Entry struct {
	Method Method
	Reason string
	// Container is what was entered. Its digest and image are empty for one that
	// isn't among the pod's regular containers.
	Container Deployment
}

// Opened is a container that was entered.
type Opened struct {
	Target target.Target
	Entry  Entry
	// Release gives free what was made for it; it is called when the target is
	// closed.
	Release func()
}

// Open enters a running container; with container empty, the pod's default
// one. ctx governs the opening alone; the target holds its connection until it
// is closed.
func Open(ctx context.Context, config *rest.Config, namespace, pod, container string, opt Options) (target.Target, Entry, error) {
	e, err := newEntering(ctx, config, namespace, pod, container, opt)
	if err != nil {
		return nil, Entry{}, err
	}
	t, entry, err := e.enter(ctx)
	if err == nil {
		entry.Container = e.entered()
	}
	return t, entry, err
}

func (e *entering) enter(ctx context.Context) (target.Target, Entry, error) {
	switch e.opt.Method {
	case Exec:
		t, err := e.exec(ctx)
		return t, Entry{Method: Exec, Reason: "it was asked for"}, err
	case Sidecar:
		t, err := e.sidecar(ctx)
		return t, Entry{Method: Sidecar, Reason: "it was asked for"}, err
	case Ephemeral:
		t, err := e.ephemeral(ctx)
		return t, Entry{Method: Ephemeral, Reason: "it was asked for"}, err
	case Auto, "":
		return e.auto(ctx)
	}
	return nil, Entry{}, fmt.Errorf("method %q: it must be one of %s", e.opt.Method, strings.Join(Methods, ", "))
}

// entering is the way into one container.
type entering struct {
	config    *rest.Config
	client    rest.Interface
	pod       *corev1.Pod
	container string
	status    *corev1.ContainerStatus
	opt       Options
}

func newEntering(ctx context.Context, config *rest.Config, namespace, pod, container string, opt Options) (*entering, error) {
	client, err := kubeapi.New(config)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	e := &entering{config: config, client: client, pod: &corev1.Pod{}, container: container, opt: opt}
	if err := client.Get().Namespace(namespace).Resource("pods").Name(pod).Do(ctx).Into(e.pod); err != nil {
		return nil, podError(err, namespace, pod)
	}
	if container == "" {
		if e.container, err = defaultContainer(e.pod); err != nil {
			return nil, err
		}
	}
	e.status, err = running(e.pod, e.container)
	return e, err
}

func (e *entering) auto(ctx context.Context) (target.Target, Entry, error) {
	t, err := e.exec(ctx)
	if err == nil || !errors.Is(err, ErrNoShell) {
		return t, Entry{Method: Exec, Reason: "the container has a shell"}, err
	}
	if _, missing := e.findSidecar(); missing == nil {
		t, err := e.sidecar(ctx)
		return t, Entry{Method: Sidecar, Reason: "the container has no /bin/sh, and its pod has a sidecar with the scanner"}, err
	}
	if e.opt.Scanner.Image == "" {
		return nil, Entry{}, err
	}
	t, err = e.ephemeral(ctx)
	return t, Entry{Method: Ephemeral, Reason: "the container has no /bin/sh, and its pod no sidecar with the scanner"}, err
}

// entered says what the container is.
func (e *entering) entered() Deployment {
	for _, d := range deployments(e.pod) {
		if d.Container == e.container {
			return d
		}
	}
	kind, workload := workloadOf(e.pod)
	return Deployment{
		Namespace: e.pod.Namespace, Pod: e.pod.Name, PodID: string(e.pod.UID), Container: e.container,
		Kind: kind, Workload: workload, Labels: e.pod.Labels, Annotations: e.pod.Annotations,
	}
}

func (e *entering) uri() string { return URI(e.pod.Namespace, e.pod.Name, e.container) }

// exec enters the container by its own shell.
func (e *entering) exec(ctx context.Context) (target.Target, error) {
	first, err := e.start(ctx, e.container, "/bin/sh", "-c", target.Gathering)
	if err != nil {
		return nil, err
	}
	t, err := target.NewShell(ctx, first.stdin, first.stdout, first.stderr, target.ShellConfig{
		URI: e.uri(), Timeout: e.opt.CommandTimeout, Close: first.close, Gathered: true,
		More: func(ctx context.Context) (target.Streams, error) {
			s, err := e.start(ctx, e.container, "/bin/sh", "-c", target.Gathering)
			if err != nil {
				return target.Streams{}, err
			}
			return target.Streams{Stdin: s.stdin, Stdout: s.stdout, Stderr: s.stderr, Close: s.close}, nil
		},
	})
	if err != nil {
		return nil, first.explain(ctx, err, e.pod, e.container)
	}
	return t, nil
}

// session is one exec under way.
type session struct {
	stdin          *io.PipeWriter
	stdout, stderr *io.PipeReader
	head           *bufio.Reader // of stdout, where a Hello was read
	cancel         context.CancelFunc
	done           chan struct{}
	err            error // of the exec; set before done is closed
}

// start runs a command in one of the pod's containers. ctx doesn't end it.
func (e *entering) start(ctx context.Context, container string, command ...string) (*session, error) {
	// An executor holds its connection: each session has its own.
	exec, err := e.executor(container, command)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	// client-go logs that a stream ended when it was cut.
	ctx = klog.NewContext(ctx, klog.Logger{})
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
	return s, nil
}

func (e *entering) executor(container string, command []string) (remotecommand.Executor, error) {
	request := e.client.Post().Resource("pods").Namespace(e.pod.Namespace).Name(e.pod.Name).SubResource("exec").
		Param("container", container).Param("stdin", "true").Param("stdout", "true").Param("stderr", "true")
	for _, word := range command {
		request = request.Param("command", word)
	}
	url := request.URL()
	ws, err := remotecommand.NewWebSocketExecutor(e.config, "GET", url.String())
	if err != nil {
		return nil, err
	}
	spdy, err := remotecommand.NewSPDYExecutor(e.config, "POST", url)
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(ws, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
}

// close lets what runs end by the end of its input, and cuts the connection
// when it doesn't.
func (s *session) close() error {
	s.stdin.Close()
	// It can't end while what it has written waits for a reader.
	go io.Copy(io.Discard, s.stdout)
	go io.Copy(io.Discard, s.stderr)
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

// explain says why the exec came to nothing; it has ended.
func (s *session) explain(ctx context.Context, err error, pod *corev1.Pod, container string) error {
	if ctx.Err() != nil {
		return err
	}
	id := idOf(pod, container)
	<-s.done
	var exit utilexec.CodeExitError
	text := fmt.Sprint(s.err)
	switch {
	case s.err == nil:
		return fmt.Errorf("%s: %w", id, err)
	case apierrors.IsForbidden(s.err), strings.Contains(text, "is forbidden"):
		return &Error{ErrForbidden, fmt.Sprintf("the cluster forbids exec into %s; grant the verbs get and create on the resource pods/exec in a Role with resourceNames [%s]: %v", id, pod.Name, s.err)}
	case errors.As(s.err, &exit) && (exit.Code == 126 || exit.Code == 127), noProgram.MatchString(text):
		return &Error{ErrNoShell, fmt.Sprintf("%s has no /bin/sh, as a distroless image has none: it can't be scanned by exec. Scan it by an ephemeral container, for which Reeve has to know the scanner's image (the agent's scan.ephemeral.image, --scanner-image), or by a sidecar with it", id)}
	}
	return fmt.Errorf("exec into %s: %w", id, s.err)
}

// noProgram is what container runtimes say when there is no such program.
var noProgram = regexp.MustCompile(`(?i)executable file not found|exec: "?/[-\w/]+"?.*no such file|no such file or directory.*exec|stat /[-\w/]+: no such file`)
