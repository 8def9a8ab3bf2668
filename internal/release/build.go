package release

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// Build is one program for one platform.
type Build struct {
	Program  string // below cmd
	OS, Arch string // as Go has them
	// Version is what the program says of itself; empty leaves that to what Go
	// knows.
	Version string
	// Dir is a folder of the module; empty means the working directory.
	Dir string
}

// Make writes the program to file.
func (b Build) Make(ctx context.Context, file string) error {
	flags := "-s -w -buildid="
	if b.Version != "" {
		flags += " -X reeve.dev/reeve/internal/version.release=" + b.Version
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags="+flags, "-o", file, "reeve.dev/reeve/cmd/"+b.Program)
	cmd.Dir, cmd.Stderr = b.Dir, os.Stderr
	// What a machine's own settings would change of the program isn't theirs.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+b.OS, "GOARCH="+b.Arch, "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build %s for %s/%s: %w", b.Program, b.OS, b.Arch, err)
	}
	return nil
}
