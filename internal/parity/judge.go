package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/internal/golden"
)

// task is what a judging process reads.
type task struct {
	Profile string
	Inputs  map[string]any
}

// judged is what it writes.
type judged struct {
	Status    string
	Controls  []golden.Control
	Wall      float64 // seconds, from loading the profile to the results
	Waiting   float64 // seconds of these in which the target had something to answer
	Questions int     // commands and looks at files
	RSS       float64 // MB, peak
	Document  json.RawMessage
}

// judge runs one profile on the target that in-target.sh made ready.
func judge(ctx context.Context, in io.Reader, out io.Writer) error {
	var do task
	if err := json.NewDecoder(in).Decode(&do); err != nil {
		return err
	}
	start := time.Now()
	p, err := inspec.Load(do.Profile)
	if err != nil {
		return err
	}
	t, err := target.Open(ctx, "shell:"+strings.TrimSuffix(os.Getenv("TARGET_EXEC"), " -c"))
	if err != nil {
		return err
	}
	defer t.Close()
	watched := &watch{Target: t}
	doc, err := inspec.Run(ctx, p, watched, inspec.Options{Inputs: do.Inputs})
	if err != nil {
		return err
	}
	got := judged{
		Status: doc.Profiles[0].Status, Controls: golden.Of(doc.Profiles[0]),
		Wall: time.Since(start).Seconds(), Waiting: watched.waiting.Seconds(), Questions: watched.questions,
	}
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err == nil {
		got.RSS = float64(use.Maxrss) / 1024
	}
	if got.Document, err = json.Marshal(doc); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(got)
}

// watch counts what a target is asked, and for how long it had something to
// answer.
type watch struct {
	target.Target
	mu        sync.Mutex // guards the rest
	questions int
	open      int
	since     time.Time
	waiting   time.Duration
}

func (w *watch) ask() (answered func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.questions++
	if w.open++; w.open == 1 {
		w.since = time.Now()
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.open--; w.open == 0 {
			w.waiting += time.Since(w.since)
		}
	}
}

func (w *watch) Run(ctx context.Context, cmd string) (target.CommandResult, error) {
	defer w.ask()()
	return w.Target.Run(ctx, cmd)
}

func (w *watch) Stat(ctx context.Context, path string, follow bool) (target.FileInfo, error) {
	defer w.ask()()
	return w.Target.Stat(ctx, path, follow)
}

func (w *watch) ReadFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	defer w.ask()()
	return w.Target.ReadFile(ctx, path, limit)
}

func (w *watch) ReadDir(ctx context.Context, path string) ([]string, error) {
	defer w.ask()()
	return w.Target.ReadDir(ctx, path)
}

func (w *watch) Readlink(ctx context.Context, path string) (string, error) {
	defer w.ask()()
	return w.Target.Readlink(ctx, path)
}

func (w *watch) Platform(ctx context.Context) (target.Platform, error) {
	defer w.ask()()
	return w.Target.Platform(ctx)
}
