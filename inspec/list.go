package inspec

import (
	"context"
	"io/fs"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec/target"
)

// Controls lists the controls as they are written, without results: nothing
// is judged, and no only_if decides. A control whose text depends on its
// target is shown as far as it can be read without one.
func (p *Profile) Controls(ctx context.Context) ([]hdf.Control, error) {
	r := &run{p: p, ungated: true}
	if err := r.install(ctx, nowhere{}); err != nil {
		return nil, err
	}
	suite, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	out := []hdf.Control{}
	for _, c := range suite.Controls() {
		out = append(out, c.HDF())
	}
	return out, nil
}

// nowhere is a target on which there is nothing, and every command ends well
// without a word.
type nowhere struct{}

func (nowhere) URI() string { return "nowhere:" }

func (nowhere) Run(context.Context, string) (target.CommandResult, error) {
	return target.CommandResult{}, nil
}

func (nowhere) Stat(_ context.Context, path string, _ bool) (target.FileInfo, error) {
	return target.FileInfo{}, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
}

func (nowhere) ReadFile(_ context.Context, path string, _ int64) ([]byte, error) {
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

func (nowhere) ReadDir(_ context.Context, path string) ([]string, error) {
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

func (nowhere) Readlink(_ context.Context, path string) (string, error) {
	return "", &fs.PathError{Op: "readlink", Path: path, Err: fs.ErrNotExist}
}

func (nowhere) Platform(context.Context) (target.Platform, error) {
	return target.Platform{Name: "linux", Family: "linux", Families: []string{"linux", "unix", "os"}}, nil
}

func (nowhere) Close() error { return nil }
