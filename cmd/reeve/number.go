package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// whole is a flag's whole number, of least or more.
type whole struct {
	n     *int
	least int
}

// String, Set and Type implement pflag.Value.
func (f whole) Type() string   { return "int" }
func (f whole) String() string { return strconv.Itoa(*f.n) }
func (f whole) Set(typed string) error {
	n, err := strconv.Atoi(typed)
	if err != nil || n < f.least {
		return fmt.Errorf("it must be a whole number, %d or more", f.least)
	}
	*f.n = n
	return nil
}

// limitFlag is --limit of a command that lists things.
func limitFlag(cmd *cobra.Command, limit *int, things string) {
	*limit = 100
	cmd.Flags().Var(whole{limit, 0}, "limit", "`number` of "+things+" at most; 0 for all")
}

// lasting is a flag's duration, of least or more. What a hub is told it is told
// in seconds.
type lasting struct {
	d     *time.Duration
	least time.Duration
}

// String, Set and Type implement pflag.Value.
func (f lasting) Type() string { return "duration" }

func (f lasting) String() string {
	if *f.d == 0 {
		return "" // a flag that is left out
	}
	return f.d.String()
}

func (f lasting) Set(typed string) error {
	d, err := time.ParseDuration(typed)
	if err != nil || d < f.least || d%time.Second != 0 {
		return fmt.Errorf("it must be a duration in whole seconds, %s or more, such as 90s, 30m or 4h", f.least)
	}
	*f.d = d
	return nil
}
