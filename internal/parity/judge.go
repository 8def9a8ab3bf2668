package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"time"

	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/internal/golden"
	"reeve.dev/reeve/internal/memory"
)

// task is what a judging process reads.
type task struct {
	Profile string
	Inputs  map[string]any
	Jobs    int
}

// judged is what it writes.
type judged struct {
	Status   string
	Controls []golden.Control
	Wall     time.Duration // from loading the profile to the results
	Stats    inspec.Stats
	RSS      float64 // MB, peak
	Document json.RawMessage
}

// judge runs one profile on the target that in-target.sh made ready.
func judge(ctx context.Context, in io.Reader, out io.Writer) error {
	var do task
	if err := json.NewDecoder(in).Decode(&do); err != nil {
		return err
	}
	memory.DropCode() // as `reeve scan` has it
	defer memory.Bound(30 << 20)()
	start := time.Now()
	p, err := inspec.Load(do.Profile)
	if err != nil {
		return err
	}
	opening := time.Now()
	t, err := target.Open(ctx, "shell:"+strings.TrimSuffix(os.Getenv("TARGET_EXEC"), " -c"))
	if err != nil {
		return err
	}
	defer t.Close()
	opened := time.Now()
	var got judged
	doc, err := inspec.Run(ctx, p, t, inspec.Options{Inputs: do.Inputs, Jobs: do.Jobs, Stats: &got.Stats})
	if err != nil {
		return err
	}
	got.Wall = time.Since(start)
	got.Stats.Waiting += opened.Sub(opening)
	got.Status, got.Controls = doc.Profiles[0].Status, golden.Of(doc.Profiles[0])
	got.RSS = float64(memory.Peak()) / (1 << 20)
	if got.Document, err = json.Marshal(doc); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(got)
}
