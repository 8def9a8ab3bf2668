//go:build linux

// Command reeve-scanner is what scans put beside a container, as an ephemeral
// container or, by the pod's author, as a sidecar: see package inside. It is
// the only file of its image.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"reeve.dev/reeve/scan/kube/inside"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "reeve-scanner:", err)
		os.Exit(2)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("say what to do: wait (in a container that a scan may enter) or enter")
	}
	flags := flag.NewFlagSet("reeve-scanner "+args[0], flag.ContinueOnError)
	switch args[0] {
	case "wait":
		var lives inside.Lives
		flags.DurationVar(&lives.All, "for", 0, "end after this `time` in any case")
		flags.DurationVar(&lives.Idle, "idle", 0, "end after this `time` without a scan, and after the last one")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return inside.Wait(ctx, lives)
	case "enter":
		var c inside.Container
		flags.StringVar(&c.ID, "id", "", "the container runtime's `id` of the container")
		flags.StringVar(&c.Name, "name", "", "`name` of the container in its pod")
		flags.BoolVar(&c.First, "first", false, "process 1 is the container's")
		flags.StringVar(&c.User, "user", "", "`UID` or UID:GID as which commands are run; else as the container's first process")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return inside.Enter(context.Background(), c, os.Stdin, os.Stdout)
	}
	return fmt.Errorf("%q: it must be wait or enter", args[0])
}
