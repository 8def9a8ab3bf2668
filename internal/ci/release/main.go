// Command release makes everything that a release consists of: `make release`.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"reeve.dev/reeve/internal/release"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(2)
	}
}

func run() error {
	r := release.Release{Root: "."}
	flag.StringVar(&r.Version, "version", "", "`version` to release, without v")
	flag.StringVar(&r.Registry, "registry", "", "`prefix` of the images' names, with its slash")
	flag.StringVar(&r.Dir, "o", "dist", "`folder` for the files; what is there from before is removed")
	flag.StringVar(&r.KeyFile, "key", "", "PEM `file` with the Ed25519 key that signs the provenance")
	flag.StringVar(&r.Builder, "builder", "https://reeve.dev/make-release", "`URI` of who builds, in the provenance")
	flag.StringVar(&r.URL, "url", "", "`URL` of the folder where the files will be found, with its slash, for krew")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64", "`OS/ARCH`, with commas between them")
	flag.Parse()
	r.Platforms = strings.Split(*platforms, ",")
	if changed := git("status", "--porcelain"); changed == "" {
		r.Revision = git("rev-parse", "HEAD")
	} else {
		fmt.Fprintf(os.Stderr, "release: the provenance names no commit, since this isn't one; commit or remove:\n%s\n", changed)
	}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		epoch = git("log", "-1", "--format=%ct")
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH %q: it must be seconds since 1970; without it this must be a git checkout", epoch)
	}
	r.Time = time.Unix(seconds, 0)
	if err := os.RemoveAll(r.Dir); err != nil {
		return err
	}
	return r.Make(context.Background())
}

// git is what git says, or nothing where there is none.
func git(args ...string) string {
	out, err := exec.Command("git", args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
