package inspec

import (
	"context"
	"errors"
	"log/slog"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// Options say how a profile is run. The zero value runs all of it.
type Options struct {
	// Inputs go before the values that the profile gives itself. Values are
	// what JSON or YAML decode into.
	Inputs map[string]any
	// Controls limits the run to these ids; /…/ is a regular expression.
	Controls []string
	// Version is written into the results as the version of the engine.
	Version string
	// Progress is called after each control, in order, by the goroutine that
	// called Run.
	Progress func(Progress)
	// Limits bound each control by itself.
	Limits ruby.Limits
	Logger *slog.Logger
}

// Progress tells which control just ended, and how.
type Progress struct {
	Done, Total int
	Control     string
	Title       string
	Impact      float64
	Status      hdf.Status
}

// Run holds the target against the profile and returns the results, sealed.
// What goes wrong inside a control is an error on that control alone, so that
// a result comes back for every control. The error is for what concerns the
// whole: a library or control file that isn't Ruby, an input that doesn't
// fit, a target that is gone, or a context that ended.
func Run(ctx context.Context, p *Profile, t target.Target, opt Options) (*hdf.Results, error) {
	return nil, errors.New("not there yet")
}

// parseAll parses every Ruby file once, so that a malformed profile is
// refused when it is loaded.
func (p *Profile) parseAll() error { return nil }
