package release

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Release is one version of Reeve.
type Release struct {
	Version  string // such as 1.2.3 or 1.3.0-rc.1
	Revision string // the commit that all of it is of; empty if there is none
	Time     time.Time
	Registry string // comes before the images' names, with its slash
	Builder  string // URI of who builds
	KeyFile  string // Ed25519, in PEM, by which the provenance is signed; empty for none
	// URL is the folder where the files will be found, with its slash; empty
	// makes no manifest for krew, which needs it.
	URL  string
	Root string // the repository
	Dir  string // where the files go
	// Platforms are those of the archives, as OS/ARCH. Images and packages are
	// made for those of Linux.
	Platforms []string

	// For tests: what makes a program, and the pages of reeve.
	build func(context.Context, Build, string) error
	pages func(ctx context.Context, reeve string, at time.Time) ([]file, error)
}

// Make writes all files of the release.
func (r Release) Make(ctx context.Context) error {
	if !regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`).MatchString(r.Version) {
		return fmt.Errorf("version %q: it must be that of https://semver.org, without v", r.Version)
	}
	if r.URL != "" && (!strings.HasPrefix(r.URL, "https://") || !strings.HasSuffix(r.URL, "/")) {
		return fmt.Errorf("URL %q: it must begin with https:// and end with /, since names of files are put behind it", r.URL)
	}
	if r.build == nil {
		r.build = func(ctx context.Context, b Build, to string) error { return b.Make(ctx, to) }
	}
	if r.pages == nil {
		r.pages = pages
	}
	work, err := os.MkdirTemp("", "reeve-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return err
	}
	// The provenance is of all that is there.
	if old, err := os.ReadDir(r.Dir); err != nil || len(old) > 0 {
		return cmp.Or(err, fmt.Errorf("%s isn't empty: name a folder for this release alone", r.Dir))
	}
	bins, err := r.programs(ctx, work)
	if err != nil {
		return err
	}
	host := bins["linux/"+runtime.GOARCH]["reeve"]
	if runtime.GOOS != "linux" || host == "" {
		return fmt.Errorf("platforms: linux/%s must be one of them, to write the manual", runtime.GOARCH)
	}
	manual, err := r.pages(ctx, host, r.Time)
	if err != nil {
		return err
	}
	for _, p := range r.Platforms {
		if err := r.archive(p, bins[p], manual); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	if r.URL != "" {
		if err := r.krew(); err != nil {
			return fmt.Errorf("krew: %w", err)
		}
	}
	for _, program := range []string{"reeve", "reeve-agent", "reeve-scanner"} {
		img := Image{Name: r.Registry + program + ":" + r.Version, Program: program, Version: r.Version, Revision: r.Revision, Level: 9}
		for _, p := range r.Platforms {
			if arch, ok := strings.CutPrefix(p, "linux/"); ok {
				img.Binaries = append(img.Binaries, Binary{arch, bins[p][program]})
			}
		}
		if err := img.Write(filepath.Join(r.Dir, fmt.Sprintf("%s_%s_image.tar", program, r.Version))); err != nil {
			return fmt.Errorf("image %s: %w", program, err)
		}
	}
	for _, chart := range []string{"reeve-hub", "reeve-agent"} {
		if err := r.chart(chart); err != nil {
			return fmt.Errorf("chart %s: %w", chart, err)
		}
	}
	return r.vouch(ctx)
}

// programs builds each program for each platform: platform → program → file.
func (r Release) programs(ctx context.Context, work string) (map[string]map[string]string, error) {
	bins := map[string]map[string]string{}
	for _, p := range r.Platforms {
		goos, arch, ok := strings.Cut(p, "/")
		if !ok {
			return nil, fmt.Errorf("platform %q: it must be OS/ARCH", p)
		}
		programs := []string{"reeve"}
		if goos == "linux" {
			programs = append(programs, "reeve-agent", "reeve-scanner")
		}
		dir := filepath.Join(work, goos+"-"+arch)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
		bins[p] = map[string]string{}
		for _, program := range programs {
			to := filepath.Join(dir, program)
			if err := r.build(ctx, Build{Program: program, OS: goos, Arch: arch, Version: r.Version, Dir: r.Root}, to); err != nil {
				return nil, err
			}
			bins[p][program] = to
		}
	}
	return bins, nil
}

// pages are the manual and the shells' completions, by their place below /usr.
func pages(ctx context.Context, reeve string, at time.Time) ([]file, error) {
	var files []file
	for shell, to := range map[string]string{
		"bash": "share/bash-completion/completions/reeve", "zsh": "share/zsh/vendor-completions/_reeve", "fish": "share/fish/vendor_completions.d/reeve.fish",
	} {
		text, err := exec.CommandContext(ctx, reeve, "completion", shell).Output()
		if err != nil {
			return nil, fmt.Errorf("reeve completion %s: %w", shell, err)
		}
		files = append(files, file{Name: to, Mode: 0o644, Body: text})
	}
	dir, err := os.MkdirTemp("", "reeve-man-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	man := exec.CommandContext(ctx, reeve, "man", dir)
	man.Env = append(os.Environ(), fmt.Sprint("SOURCE_DATE_EPOCH=", at.Unix()))
	if out, err := man.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("reeve man: %w: %s", err, out)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		f, err := readFile("share/man/man1/"+filepath.Base(name), 0o644, name)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// archive writes what is for one platform: an archive, what is in it, and for
// Linux the Debian packages.
func (r Release) archive(platform string, bins map[string]string, manual []file) error {
	goos, arch, _ := strings.Cut(platform, "/")
	top := r.top()
	var files []file
	add := func(name string, mode int64, path string) error {
		f, err := readFile(name, mode, path)
		files = append(files, f)
		return err
	}
	var programs []string
	for name, path := range bins {
		if err := add(top+name, 0o755, path); err != nil {
			return err
		}
		programs = append(programs, path)
	}
	slices.Sort(programs)
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md", "examples/hub.yaml", "examples/agent.yaml"} {
		if err := add(top+name, 0o644, filepath.Join(r.Root, name)); err != nil {
			return err
		}
	}
	if goos == "linux" {
		for _, unit := range []string{"reeve-hub.service", "reeve-agent.service"} {
			if err := add(top+"systemd/"+unit, 0o644, filepath.Join(r.Root, "deploy", "systemd", unit)); err != nil {
				return err
			}
		}
	}
	for _, f := range manual {
		f.Name = top + f.Name
		files = append(files, f)
	}
	body, err := tarGz(files, r.Time)
	if err != nil {
		return err
	}
	name := r.platformName(platform)
	if err := r.write(name+".tar.gz", body); err != nil {
		return err
	}
	bom, err := sbom("reeve", r.Version, r.Time, programs)
	if err != nil {
		return err
	}
	if err := r.write(name+".cdx.json", bom); err != nil {
		return err
	}
	if goos != "linux" {
		return nil
	}
	return r.debs(arch, bins, manual)
}

// top is the folder that an archive has everything in.
func (r Release) top() string { return "reeve-" + r.Version + "/" }

// platformName begins the names of what is for one platform.
func (r Release) platformName(platform string) string {
	return fmt.Sprintf("reeve_%s_%s", r.Version, strings.ReplaceAll(platform, "/", "_"))
}

// debs writes the Debian packages reeve and reeve-agent.
func (r Release) debs(arch string, bins map[string]string, manual []file) error {
	hub := deb{
		Package: "reeve", Summary: "Inspect every cluster, report to one hub", Unit: "reeve-hub.service",
		Description: "The hub, to which the agents of all clusters connect, and the tool: it scans\ncontainers and file systems against InSpec profiles, with a hub or without.",
	}
	agent := deb{
		Package: "reeve-agent", Summary: "Reeve's agent of a cluster or a machine", Unit: "reeve-agent.service",
		Description: "It connects to the hub, forwards to services beside it, scans containers and\ncollects SBOMs, facts and problems.",
	}
	for _, f := range manual {
		f.Name = "/usr/" + f.Name
		hub.Files = append(hub.Files, f)
	}
	for _, name := range plugin {
		hub.Files = append(hub.Files, file{Name: "/usr/bin/" + name, Link: "reeve"})
	}
	for _, d := range []struct {
		*deb
		program, config string
	}{{&hub, "reeve", "hub.yaml"}, {&agent, "reeve-agent", "agent.yaml"}} {
		for _, f := range []struct {
			name string
			mode int64
			path string
		}{
			{"/usr/bin/" + d.program, 0o755, bins[d.program]},
			{"/usr/lib/systemd/system/" + d.Unit, 0o644, filepath.Join(r.Root, "deploy", "systemd", d.Unit)},
			{"/etc/reeve/" + d.config, 0o644, filepath.Join(r.Root, "deploy", "systemd", d.config)},
			{"/usr/share/doc/" + d.Package + "/copyright", 0o644, filepath.Join(r.Root, "LICENSE")},
		} {
			found, err := readFile(f.name, f.mode, f.path)
			if err != nil {
				return err
			}
			d.Files = append(d.Files, found)
		}
		d.Version, d.Arch = r.Version, arch
		body, err := d.bytes(r.Time)
		if err != nil {
			return err
		}
		if err := r.write(fmt.Sprintf("%s_%s_%s.deb", d.Package, debVersion(r.Version), arch), body); err != nil {
			return err
		}
	}
	return nil
}

var (
	chartVersion = regexp.MustCompile(`(?m)^(version|appVersion): .*$`)
	repository   = regexp.MustCompile(`(?m)^( +repository: )(reeve\S*)$`)
)

// chart packs a chart as helm does, with this version and registry.
func (r Release) chart(name string) error {
	dir := filepath.Join(r.Root, "deploy", "charts", name)
	var files []file
	// CRDs are a link, which fs.WalkDir doesn't follow.
	for _, at := range []string{"", "crds"} {
		root, err := filepath.EvalSymlinks(filepath.Join(dir, at))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		err = fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			f, err := readFile(filepath.Join(name, at, path), 0o644, filepath.Join(root, path))
			switch path {
			case "Chart.yaml":
				f.Body = chartVersion.ReplaceAll(f.Body, []byte(`$1: "`+r.Version+`"`))
			case "values.yaml":
				f.Body = repository.ReplaceAll(f.Body, []byte("${1}"+r.Registry+"$2"))
			}
			files = append(files, f)
			return err
		})
		if err != nil {
			return err
		}
	}
	body, err := tarGz(files, r.Time)
	if err != nil {
		return err
	}
	return r.write(fmt.Sprintf("%s-%s.tgz", name, r.Version), body)
}

// vouch writes the sums of all files, and where they come from.
func (r Release) vouch(ctx context.Context) error {
	const sums, statement = "SHA256SUMS", "provenance.json"
	names, err := os.ReadDir(r.Dir)
	if err != nil {
		return err
	}
	var list strings.Builder
	var subjects []subject
	for _, d := range names {
		if d.Name() == sums || strings.HasPrefix(d.Name(), statement) {
			continue
		}
		body, err := os.ReadFile(filepath.Join(r.Dir, d.Name()))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		fmt.Fprintf(&list, "%x  %s\n", sum, d.Name())
		subjects = append(subjects, subject{Name: d.Name(), Digest: map[string]string{"sha256": hex.EncodeToString(sum[:])}})
	}
	if err := r.write(sums, []byte(list.String())); err != nil {
		return err
	}
	goSum, err := os.ReadFile(filepath.Join(r.Root, "go.sum"))
	if err != nil {
		return err
	}
	p, err := r.provenance(subjects, strings.TrimPrefix(runtime.Version(), "go"), goSum)
	if err != nil {
		return err
	}
	if err := r.write(statement, p); err != nil || r.KeyFile == "" {
		return err
	}
	envelope, err := sign(ctx, p, r.KeyFile)
	if err != nil {
		return err
	}
	return r.write(statement+".dsse", envelope)
}

func (r Release) write(name string, body []byte) error {
	return os.WriteFile(filepath.Join(r.Dir, name), body, 0o644)
}
