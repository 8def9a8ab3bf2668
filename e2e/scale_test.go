package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
)

var full = flag.Bool("full", false, "1,000 watches, 200 commands at once, a watch of ten minutes, and public profiles by exec beside a shell")

// scale has many watches open, and many commands run at once.
func (w *world) scale(t *testing.T) {
	watches, commands := 200, 20
	if *full {
		watches, commands = 1000, 200
	}
	before := w.held(t)
	t.Run(fmt.Sprintf("%d watches", watches), func(t *testing.T) { w.manyWatches(t, watches) })
	t.Run(fmt.Sprintf("%d commands", commands), func(t *testing.T) { w.manyCommands(t, commands) })
	w.await(t, "all descriptors are closed", func() (bool, error) {
		now := w.held(t)
		// Connections to the API server stay a while for the next requests; each
		// took a hundred watches.
		spare := 8 + watches/100
		if now.hubFiles > before.hubFiles+spare || now.agentFiles > before.agentFiles+spare {
			return false, fmt.Errorf("before %v, now %v", before, now)
		}
		return true, nil
	})
}

// held is what the processes hold.
type held struct{ hubFiles, agentFiles, hubMiB, agentMiB int }

func (h held) String() string {
	return fmt.Sprintf("hub %d MiB and %d descriptors, agent %d MiB and %d", h.hubMiB, h.hubFiles, h.agentMiB, h.agentFiles)
}

func (w *world) held(t *testing.T) (h held) {
	t.Helper()
	for _, p := range []struct {
		of         *process
		files, mib *int
	}{{w.hub, &h.hubFiles, &h.hubMiB}, {w.agent, &h.agentFiles, &h.agentMiB}} {
		proc := fmt.Sprintf("/proc/%d", p.of.cmd.Process.Pid)
		list, err := os.ReadDir(proc + "/fd")
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(proc + "/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rss, _ := strings.Cut(string(text), "VmRSS:")
		if _, err := fmt.Sscan(rss, p.mib); err != nil {
			t.Fatal(err)
		}
		*p.mib /= 1024
		*p.files = len(list)
	}
	return h
}

func (w *world) manyWatches(t *testing.T, n int) {
	client, err := kubernetes.NewForConfig(w.clientConfig(t, "exec"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	before, begin := w.held(t), time.Now()
	open := make([]watch.Interface, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			var err error
			if open[i], err = client.CoreV1().ConfigMaps(clients).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=signal"}); err != nil {
				t.Errorf("watch %d: %v", i, err)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	opened := time.Since(begin)
	begin = time.Now()
	if _, err := w.k.Kubectl(ctx, "", "create", "configmap", "signal", "-n", clients); err != nil {
		t.Fatal(err)
	}
	for i, o := range open {
		group.Go(func() {
			defer o.Stop()
			e, ok := <-o.ResultChan()
			if m, is := e.Object.(*corev1.ConfigMap); !ok || !is || e.Type != watch.Added || m.Name != "signal" {
				t.Errorf("watch %d: %v %v", i, e.Type, e.Object)
			}
		})
	}
	told := make(chan held, 1)
	told <- w.held(t)
	group.Wait()
	t.Logf("%d watches: open after %.2fs, all told of a change within %.2fs; before %v; with them %v", n, opened.Seconds(), time.Since(begin).Seconds(), before, <-told)
}

// manyCommands runs n commands at once, each of which answers what it reads
// while all the others are there.
func (w *world) manyCommands(t *testing.T, n int) {
	cfg := w.clientConfig(t, "exec")
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 4*time.Minute, errors.New("not within four minutes"))
	defer cancel()
	url := client.CoreV1().RESTClient().Post().Resource("pods").Namespace(clients).Name("box").SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: "shell", Command: []string{"cat"}, Stdin: true, Stdout: true, Stderr: true}, scheme.ParameterCodec).URL()
	begin := time.Now()
	type command struct {
		in    *io.PipeWriter
		out   *io.PipeReader
		ended chan error
	}
	all := make([]command, n)
	for i := range all {
		inRead, in := io.Pipe()
		out, outWrite := io.Pipe()
		c := command{in, out, make(chan error, 1)}
		all[i] = c
		executor, err := remotecommand.NewWebSocketExecutor(cfg, "GET", url.String())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: inRead, Stdout: outWrite, Stderr: io.Discard})
			outWrite.CloseWithError(err) // nil is EOF
			c.ended <- err
		}()
	}
	// round has each command answer a line, and says how long the slowest took.
	round := func(what string) {
		t.Helper()
		times := make([]time.Duration, n)
		var group sync.WaitGroup
		for i, c := range all {
			group.Go(func() {
				begin := time.Now()
				line := fmt.Sprintf("%s %d\n", what, i)
				go io.WriteString(c.in, line)
				got := make([]byte, len(line))
				if _, err := io.ReadFull(c.out, got); err != nil || string(got) != line {
					t.Errorf("command %d: %q, %v; want %q", i, got, err, line)
					cancel()
				}
				times[i] = time.Since(begin)
			})
		}
		group.Wait()
		slices.Sort(times)
		t.Logf("%d commands, %s answer: half within %.3fs, all within %.3fs", n, what, times[n/2].Seconds(), times[n-1].Seconds())
	}
	round("the first")
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("%d commands run %.2fs after the first was asked for; %v", n, time.Since(begin).Seconds(), w.held(t))
	round("the second")
	for i, c := range all {
		c.in.Close()
		if rest, err := io.ReadAll(c.out); err != nil || len(rest) > 0 {
			t.Errorf("command %d: %q, %v", i, rest, err)
		}
		if err := <-c.ended; err != nil {
			t.Errorf("command %d: %v", i, err)
		}
	}
}
