// Command reeve-agent is `reeve agent` by itself, without the hub, its database
// and its page: the only program of the agent's image.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/internal/memory"
	"reeve.dev/reeve/internal/telemetry"
	"reeve.dev/reeve/internal/version"
)

func main() {
	memory.DropCode()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "reeve-agent:", err)
		os.Exit(2)
	}
}

// run is main without the process.
func run(ctx context.Context, args []string, out, errs io.Writer) error {
	flags := flag.NewFlagSet("reeve-agent", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // its errors are told with ours
	path := flags.String("config", "", "configuration `file` (YAML); every key is also in the environment, as REEVE_AGENT_ and the key")
	birger := flags.String("birger-services", "", "services `file` of a Birger agent, taken as it is beside the configuration")
	show := flags.Bool("version", false, "print the version and end")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(out)
			flags.PrintDefaults()
			return nil
		}
		return fmt.Errorf("%w; see: reeve-agent -help", err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see: reeve-agent -help", flags.Arg(0))
	}
	if *show {
		_, err := fmt.Fprintln(out, version.Text())
		return err
	}
	cfg, err := agent.LoadConfig(*path)
	if err != nil {
		return err
	}
	if *birger != "" {
		cfg.BirgerServices = *birger
	}
	end, err := telemetry.Traces(ctx, "reeve-agent", version.Text(), &cfg.Tracer)
	if err != nil {
		return err
	}
	defer end()
	a, err := agent.New(cfg, version.Text(), telemetry.Logger(errs, cfg.Log.Level, cfg.Log.Format))
	if err != nil {
		return err
	}
	return a.Run(ctx)
}
