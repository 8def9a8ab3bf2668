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
}

// subjects are measured in this order.
var subjects = []struct {
	name    string
	measure func(context.Context, options, *Report) error
}{
	{"forward", forwarding},
	{"engine", engine},
	{"scan", scanning},
	{"start", starting},
}

func main() {
	var opt options
	flag.IntVar(&opt.rounds, "rounds", 5, "measurements of each figure; the median is reported")
	flag.DurationVar(&opt.each, "each", time.Second, "how long one measurement takes")
	only := flag.String("only", "", "measure this subject alone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, opt, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
}

func run(ctx context.Context, opt options, only string) error {
	var report Report
	for _, s := range subjects {
		if only != "" && only != s.name {
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
