package kube

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/scan/kube/inside"
)

const (
	// SidecarName is the container of a pod that is taken for its scanner,
	// unless the pod's annotation SidecarAnnotation names another.
	SidecarName       = "reeve-scanner"
	SidecarAnnotation = "reeve.dev/scanner-container"

	scannerProgram = "/reeve-scanner"
)

// Scanner is what an ephemeral container is made of.
type Scanner struct {
	// Image is that of cmd/reeve-scanner; without one there are no ephemeral
	// containers.
	Image string
	// PullPolicy is Kubernetes' own default if it is empty.
	PullPolicy string
	// Capabilities are what the scanner is given beside the runtime's default
	// ones; nil is DefaultCapabilities.
	Capabilities []string
}

// DefaultCapabilities let the scanner look into the processes of any user and
// run commands in their root directory. With SYS_ADMIN beside them it can join
// their mount namespace, so that commands see the container's own mounts.
var DefaultCapabilities = []string{"SYS_PTRACE", "SYS_CHROOT"}

const (
	// comeUp is how long an ephemeral container may take to run, its image to
	// be pulled included.
	comeUp   = 2 * time.Minute
	lookUp   = 100 * time.Millisecond
	idleLife = 15 * time.Second
)

// findSidecar names the sidecar of the pod.
func (e *entering) findSidecar() (string, error) {
	name := SidecarName
	if n := e.pod.Annotations[SidecarAnnotation]; n != "" {
		name = n
	}
	if _, err := running(e.pod, name); err != nil || name == e.container {
		return "", &Error{ErrNoScanner, fmt.Sprintf("pod %s/%s has no sidecar with the scanner: no container called %s runs in it (the annotation %s can name another)", e.pod.Namespace, e.pod.Name, name, SidecarAnnotation)}
	}
	if share := e.pod.Spec.ShareProcessNamespace; share == nil || !*share {
		return "", &Error{ErrNoScanner, fmt.Sprintf("the sidecar %s of pod %s/%s can't see the other containers: the pod needs shareProcessNamespace: true", name, e.pod.Namespace, e.pod.Name)}
	}
	return name, nil
}

func (e *entering) sidecar(ctx context.Context) (target.Target, error) {
	name, err := e.findSidecar()
	if err != nil {
		return nil, err
	}
	return e.by(ctx, name)
}

// ephemeral adds a container with the scanner to the pod. It can't be removed
// again; it ends with the scan, or by itself if there comes none.
func (e *entering) ephemeral(ctx context.Context) (target.Target, error) {
	if e.opt.Scanner.Image == "" {
		return nil, &Error{ErrNoScanner, "Reeve doesn't know the scanner's image, which an ephemeral container needs: set the agent's scan.ephemeral.image, or --scanner-image"}
	}
	name := e.opt.Name
	if name == "" {
		var random [5]byte
		rand.Read(random[:])
		name = "reeve-" + hex.EncodeToString(random[:])
	}
	err := e.add(ctx, e.scanner(name))
	if refusedByPolicy(err) {
		err = e.add(ctx, e.restricted(name))
	}
	if err != nil {
		return nil, e.addError(err)
	}
	if err := e.awaitScanner(ctx, name); err != nil {
		return nil, err
	}
	return e.by(ctx, name)
}

// scanner is the ephemeral container.
func (e *entering) scanner(name string) corev1.EphemeralContainer {
	life := e.opt.Life
	if life == 0 {
		life = time.Hour
	}
	capabilities := e.opt.Scanner.Capabilities
	if capabilities == nil {
		capabilities = DefaultCapabilities
	}
	var root int64
	no, yes := false, true
	security := &corev1.SecurityContext{
		RunAsUser: &root, RunAsGroup: &root, RunAsNonRoot: &no, ReadOnlyRootFilesystem: &yes,
		Capabilities: &corev1.Capabilities{},
	}
	for _, c := range capabilities {
		security.Capabilities.Add = append(security.Capabilities.Add, corev1.Capability(c))
	}
	e.confine(security)
	return corev1.EphemeralContainer{
		TargetContainerName: e.container,
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: name, Image: e.opt.Scanner.Image, ImagePullPolicy: corev1.PullPolicy(e.opt.Scanner.PullPolicy),
			Command:                  []string{scannerProgram, "wait", "--for", life.String(), "--idle", idleLife.String()},
			SecurityContext:          security,
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		},
	}
}

// restricted is the ephemeral container as the strictest of the pod security
// standards wants it. It can look at the files of a container that keeps to
// that, too, if it is its user.
func (e *entering) restricted(name string) corev1.EphemeralContainer {
	c := e.scanner(name)
	no, yes := false, true
	c.SecurityContext = &corev1.SecurityContext{
		RunAsNonRoot: &yes, ReadOnlyRootFilesystem: &yes, AllowPrivilegeEscalation: &no,
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	e.confine(c.SecurityContext)
	if p := c.SecurityContext.SeccompProfile; p.Type == corev1.SeccompProfileTypeUnconfined {
		c.SecurityContext.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	}
	if uid, gid := e.user(); uid != nil {
		c.SecurityContext.RunAsUser, c.SecurityContext.RunAsGroup = uid, gid
	}
	return c
}

// confine gives the scanner the labels and profiles that the container has of its
// own: SELinux and AppArmor let a process look into those that are confined as it
// is. What is the whole pod's the API server applies to each of its containers.
func (e *entering) confine(security *corev1.SecurityContext) {
	for _, c := range slices.Concat(e.pod.Spec.Containers, e.pod.Spec.InitContainers) {
		s := c.SecurityContext
		if c.Name != e.container || s == nil {
			continue
		}
		if s.SELinuxOptions != nil {
			security.SELinuxOptions = s.SELinuxOptions.DeepCopy()
		}
		if s.AppArmorProfile != nil {
			security.AppArmorProfile = s.AppArmorProfile.DeepCopy()
		}
		if s.SeccompProfile != nil {
			security.SeccompProfile = s.SeccompProfile.DeepCopy()
		}
	}
}

// user is the container's, as far as the API server knows it: the kubelet tells
// it (since 1.33), or the pod's author did.
func (e *entering) user() (uid, gid *int64) {
	if u := e.status.User; u != nil && u.Linux != nil {
		return &u.Linux.UID, &u.Linux.GID
	}
	if s := e.pod.Spec.SecurityContext; s != nil {
		uid, gid = s.RunAsUser, s.RunAsGroup
	}
	for _, c := range slices.Concat(e.pod.Spec.Containers, e.pod.Spec.InitContainers) {
		if s := c.SecurityContext; c.Name == e.container && s != nil {
			if s.RunAsUser != nil {
				uid = s.RunAsUser
			}
			if s.RunAsGroup != nil {
				gid = s.RunAsGroup
			}
		}
	}
	return uid, gid
}

func (e *entering) add(ctx context.Context, c corev1.EphemeralContainer) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"ephemeralContainers": []corev1.EphemeralContainer{c}}})
	if err != nil {
		return err
	}
	return e.client.Patch(types.StrategicMergePatchType).Namespace(e.pod.Namespace).Resource("pods").Name(e.pod.Name).
		SubResource("ephemeralcontainers").Body(patch).Do(ctx).Error()
}

// refusedByPolicy reports whether it isn't who asks that is refused, but what
// is asked for.
func refusedByPolicy(err error) bool {
	return apierrors.IsForbidden(err) && !strings.Contains(err.Error(), "cannot patch resource")
}

func (e *entering) addError(err error) error {
	id := fmt.Sprintf("pod %s/%s", e.pod.Namespace, e.pod.Name)
	switch {
	case refusedByPolicy(err):
		return &Error{ErrRefused, fmt.Sprintf("the cluster's admission refuses an ephemeral container in %s, also one without any privileges: %v", id, err)}
	case apierrors.IsForbidden(err):
		return &Error{ErrForbidden, fmt.Sprintf("the cluster forbids an ephemeral container in %s; grant the verbs get, update and patch on the resource pods/ephemeralcontainers in a Role with resourceNames [%s]: %v", id, e.pod.Name, err)}
	case apierrors.IsNotFound(err):
		return podError(err, e.pod.Namespace, e.pod.Name)
	}
	return fmt.Errorf("ephemeral container in %s: %w", id, err)
}

// stuck are the reasons for which a container waits that waiting won't end.
var stuck = []string{"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"}

// awaitScanner returns when the ephemeral container runs.
func (e *entering) awaitScanner(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, comeUp, &Error{ErrNoScanner, fmt.Sprintf("the ephemeral container %s of pod %s/%s didn't come up within %v", name, e.pod.Namespace, e.pod.Name, comeUp)})
	defer cancel()
	tick := time.NewTicker(lookUp)
	defer tick.Stop()
	for {
		pod := &corev1.Pod{}
		if err := e.client.Get().Namespace(e.pod.Namespace).Resource("pods").Name(e.pod.Name).Do(ctx).Into(pod); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return podError(err, e.pod.Namespace, e.pod.Name)
		}
		for _, st := range pod.Status.EphemeralContainerStatuses {
			if st.Name != name {
				continue
			}
			what := fmt.Sprintf("the ephemeral container %s of pod %s/%s (image %s)", name, e.pod.Namespace, e.pod.Name, e.opt.Scanner.Image)
			switch state := st.State; {
			case state.Running != nil:
				return nil
			case state.Terminated != nil:
				return &Error{ErrNoScanner, fmt.Sprintf("%s ended at once with exit code %d (%s): %s", what, state.Terminated.ExitCode, state.Terminated.Reason, strings.TrimSpace(state.Terminated.Message))}
			case state.Waiting != nil && slices.Contains(stuck, state.Waiting.Reason):
				return &Error{ErrNoScanner, fmt.Sprintf("%s can't start: %s: %s", what, state.Waiting.Reason, state.Waiting.Message)}
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// by enters the container from the one that has the scanner.
func (e *entering) by(ctx context.Context, scanner string) (target.Target, error) {
	first, hello, err := e.greet(ctx, scanner)
	if err != nil {
		return nil, err
	}
	if !hello.Shell {
		go io.Copy(io.Discard, first.stderr)
		return target.NewRemote(e.uri(), target.Streams{Stdin: first.stdin, Stdout: first.head, Close: first.close}), nil
	}
	var refuse func(string) error
	if !hello.Mounts {
		refuse = refuseMounts
	}
	t, err := target.NewShell(ctx, first.stdin, first.head, first.stderr, target.ShellConfig{
		URI: e.uri(), Timeout: e.opt.CommandTimeout, Close: first.close, Gathered: true, Refuse: refuse,
		More: func(ctx context.Context) (target.Streams, error) {
			s, h, err := e.greet(ctx, scanner)
			if err == nil && h != hello {
				s.close()
				err = errors.New("the scanner entered the container in another way than before")
			}
			if err != nil {
				return target.Streams{}, err
			}
			return target.Streams{Stdin: s.stdin, Stdout: s.head, Stderr: s.stderr, Close: s.close}, nil
		},
	})
	if err != nil {
		return nil, first.explain(ctx, err, e.pod, scanner)
	}
	return t, nil
}

// greet starts a session of the scanner and reads its Hello.
func (e *entering) greet(ctx context.Context, scanner string) (*session, inside.Hello, error) {
	_, id, _ := strings.Cut(e.status.ContainerID, "://")
	words := []string{scannerProgram, "enter", "--id", id, "--name", e.container}
	if share := e.pod.Spec.ShareProcessNamespace; (share == nil || !*share) && !e.pod.Spec.HostPID {
		words = append(words, "--first")
	}
	if uid, gid := e.user(); uid != nil {
		user := strconv.FormatInt(*uid, 10)
		if gid != nil {
			user += ":" + strconv.FormatInt(*gid, 10)
		}
		words = append(words, "--user", user)
	}
	s, err := e.start(ctx, scanner, words...)
	if err != nil {
		return nil, inside.Hello{}, err
	}
	stop := context.AfterFunc(ctx, s.cancel)
	s.head = bufio.NewReader(s.stdout)
	hello, err := inside.ReadHello(s.head)
	if stop(); err == nil {
		return s, hello, nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	// What the program says otherwise is on its way.
	go io.Copy(io.Discard, s.stderr)
	s.stdin.Close()
	s.stdout.Close()
	err = s.explainScanner(ctx, err, e.pod, scanner)
	s.close()
	return nil, hello, err
}

func (s *session) explainScanner(ctx context.Context, err error, pod *corev1.Pod, scanner string) error {
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return &Error{ErrNoScanner, fmt.Sprintf("the scanner in %s: %v", idOf(pod, scanner), err)}
	}
	if err = s.explain(ctx, err, pod, scanner); errors.Is(err, ErrNoShell) {
		return &Error{ErrNoScanner, fmt.Sprintf("%s has no %s: its image isn't that of Reeve's scanner", idOf(pod, scanner), scannerProgram)}
	}
	return err
}

// mounting are the commands and files that tell the mounts. Where the scanner
// couldn't join the container's mount namespace, they would tell its own.
var mounting = regexp.MustCompile("(^|[;&|(`]\\s*|\\b(sudo|xargs|exec|then|do)\\s+)(/\\S*/)?(mount|findmnt|df|mountpoint|lsblk)\\b|/proc/(self|thread-self|\\$\\$|[0-9]+)/mount|/proc/mounts|/etc/mtab|\\s-fstype\\b")

func refuseMounts(what string) error {
	if !mounting.MatchString(what) {
		return nil
	}
	return errors.New("the container's mounts can't be told from the scanner's container: give it the capability SYS_ADMIN (the agent's scan.ephemeral.capabilities, or the sidecar's securityContext), or scan by exec")
}
