// Command bench measures Reeve and prints each figure beside the floor or the
// peer that it names, as a ratio: absolute figures are the machine's, ratios
// are ours. Run it on an idle machine; `make bench` does.
//
// Each subject is a function that adds its rows to the report.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

// options are what every subject heeds.
type options struct {
	rounds int           // measurements of each figure; the median is reported
	each   time.Duration // how long one measurement takes
	agents int           // of scale
	scans  int           // of queue
	links  int           // carriers of each
	sboms  int           // of insights
	// pods are those of a cluster whose inventory is reported.
	pods int
	// workloads are what policies are evaluated on.
	workloads int
}

// subjects are measured in this order.
var subjects = []struct {
	name    string
	measure func(context.Context, options, *Report) error
	asked   bool // takes long, so it is measured only when it is named
}{
	{"forward", forwarding, false},
	{"stream", streaming, true},
	{"scale", scaling, true},
	{"engine", engine, false},
	{"scan", scanning, false},
	{"queue", queueing, true},
	{"storm", storm, true},
	{"history", history, true},
	{"insights", insights, true},
	{"alerts", alerts, true},
	{"policies", policies, true},
	{"inventory", inventory, true},
	{"github", repositories, true},
	{"page", paging, false},
	{"start", starting, false},
}

func main() {
	var opt options
	flag.IntVar(&opt.rounds, "rounds", 5, "measurements of each figure; the median is reported")
	flag.DurationVar(&opt.each, "each", time.Second, "how long one measurement takes")
	flag.IntVar(&opt.agents, "agents", 10_000, "agents of -only scale")
	flag.IntVar(&opt.links, "carriers", 1, "carriers of each agent of -only scale")
	flag.IntVar(&opt.scans, "scans", 10_000, "scans of -only queue, at 100 a second")
	flag.IntVar(&opt.sboms, "sboms", 10_000, "SBOMs of -only insights, of 600 components each")
	flag.IntVar(&opt.workloads, "workloads", 10_000, "workloads of -only policies, which are 20")
	flag.IntVar(&opt.pods, "pods", 10_000, "pods of -only inventory")
	only := flag.String("only", "", "measure this subject alone: forward, stream, scale, engine, scan, queue, storm, history, insights, policies, inventory, github, page or start")
	hubDir := flag.String("hub", "", "be the hub of -only scale, in this folder")
	hubPort := flag.Int("port", 0, "port of -hub")
	farUp := flag.String("far", "", "be one stream of -only stream on a far path, from hub to agent: true or false")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := error(nil)
	switch {
	case *hubDir != "":
		err = beHub(ctx, *hubDir, *hubPort)
	case *farUp != "":
		err = beFar(ctx, *farUp == "true")
	default:
		err = run(ctx, opt, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
}

func run(ctx context.Context, opt options, only string) error {
	var report Report
	for _, s := range subjects {
		if only != s.name && (only != "" || s.asked) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s …\n", s.name)
		if err := s.measure(ctx, opt, &report); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	report.Print(os.Stdout)
	return nil
}
