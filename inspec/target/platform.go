package target

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

// maxPlatformFile bounds the files that tell the platform.
const maxPlatformFile = 1 << 20

// releaseFiles are what tells the systems apart.
var releaseFiles = []string{
	"/etc/os-release", "/etc/lsb-release", "/etc/debian_version", "/usr/bin/raspi-config", "/etc/redhat-release", "/etc/system-release",
	"/etc/oracle-release", "/etc/enterprise-release", "/etc/SuSE-release", "/etc/arch-release", "/etc/slackware-version", "/etc/gentoo-release",
	"/etc/alpine-release", "/etc/coreos/update.conf",
}

// detectScript says uname's words and the files that are there, in one round
// trip: NAME LF CONTENT NUL each.
var detectScript = "uname -s; uname -m; uname -r\nfor f in " + strings.Join(releaseFiles, " ") +
	"; do if [ -f $f ] && [ -r $f ]; then echo $f; cat $f; printf '\\0'; fi; done"

// detect finds out the platform in the order that train does, so that a
// profile's supports and its os.debian? mean what they do there. Files that
// may not be read count as absent, as they do there.
func detect(ctx context.Context, t Target) (Platform, error) {
	d := detector{ctx: ctx, t: t}
	kernel, machine := "Linux", ""
	switch out, err := t.Run(ctx, detectScript); {
	case errors.Is(err, ErrNoCommands):
		machine = d.elfMachine()
	case err != nil:
		return Platform{}, fmt.Errorf("find out the platform: %w", err)
	default:
		lines := strings.SplitN(string(out.Stdout), "\n", 4)
		if len(lines) < 4 {
			machine = d.elfMachine() // no uname
			break
		}
		kernel, machine, d.release = lines[0], lines[1], lines[2]
		d.files = map[string]string{}
		for rec := range strings.SplitSeq(lines[3], "\x00") {
			if name, text, ok := strings.Cut(rec, "\n"); ok {
				d.files[name] = text
			}
		}
	}
	p := Platform{Arch: machine}
	if kernel != "Linux" {
		p.Name = strings.ToLower(kernel)
		p.Title, p.Release, p.Family = kernel, d.release, p.Name
		p.Families = []string{"unix", "os"}
		return p, d.err
	}
	d.linux(&p)
	return p, d.err
}

type detector struct {
	ctx     context.Context
	t       Target
	release string
	files   map[string]string // those of releaseFiles; nil when they must be read
	err     error
}

// file returns the text of a regular file, or false when there is none that
// can be read.
func (d *detector) file(name string) (string, bool) {
	if d.files != nil {
		text, ok := d.files[name]
		return text, ok
	}
	data, err := d.t.ReadFile(d.ctx, name, maxPlatformFile)
	var pathErr *fs.PathError
	switch {
	case err == nil:
		return string(data), true
	case !errors.As(err, &pathErr) && d.err == nil:
		d.err = fmt.Errorf("find out the platform: %w", err)
	}
	return "", false
}

func (d *detector) exists(name string) bool {
	if d.files != nil {
		_, ok := d.files[name]
		return ok
	}
	info, err := d.t.Stat(d.ctx, name, true)
	return err == nil && info.Type == File
}

func (d *detector) linux(p *Platform) {
	set := func(name, title, release string, families ...string) {
		p.Name, p.Title, p.Release = name, title, release
		p.Families = append(families, "linux", "unix", "os")
		p.Family = p.Families[0]
	}
	osr := d.osRelease()
	lsbID, lsbRelease := d.lsb()

	if version, ok := d.file("/etc/debian_version"); ok {
		version = strings.TrimSuffix(version, "\n")
		switch {
		case contains(lsbID, "ubuntu"):
			set("ubuntu", "Ubuntu Linux", lsbRelease, "debian")
		case contains(lsbID, "linuxmint"):
			set("linuxmint", "LinuxMint", lsbRelease, "debian")
		case osr["ID"] == "kali":
			set("kali", "Kali Linux", osr["VERSION"], "debian")
		case contains(osr["NAME"], "raspbian") || d.exists("/usr/bin/raspi-config"):
			set("raspbian", "Raspbian Linux", version, "debian")
		default:
			set("debian", "Debian Linux", version, "debian")
		}
		return
	}
	if contains(osr["NAME"], "fedora") {
		set("fedora", "Fedora", osr["VERSION_ID"], "fedora")
		return
	}
	if name, title, release, ok := d.redhat(osr, lsbID, lsbRelease); ok {
		set(name, title, release, "redhat")
		return
	}
	if release, ok := d.suse(osr); ok {
		switch suse, _ := d.file("/etc/SuSE-release"); {
		case startsFold(osr["NAME"], "opensuse") || startsFold(suse, "opensuse"):
			set("opensuse", "OpenSUSE Linux", release, "suse")
			return
		case startsFold(osr["NAME"], "sles") || contains(suse, "suse"):
			set("suse", "Suse Linux", release, "suse")
			return
		}
	}
	if d.exists("/etc/arch-release") {
		set("arch", "Arch Linux", d.release)
		return
	}
	for _, rel := range []struct{ name, title, file string }{
		{"slackware", "Slackware Linux", "/etc/slackware-version"},
		{"gentoo", "Gentoo Linux", "/etc/gentoo-release"},
	} {
		if raw, ok := d.file(rel.file); ok {
			set(rel.name, rel.title, strings.Join(digits.FindAllString(raw, -1), ""))
			return
		}
	}
	if raw, ok := d.file("/etc/alpine-release"); ok {
		set("alpine", "Alpine Linux", strings.TrimSpace(raw))
		return
	}
	if d.exists("/etc/coreos/update.conf") {
		set("coreos", "CoreOS Linux", lsbRelease)
		return
	}
	switch {
	case contains(osr["ID"], "wolfi"):
		set("wolfi", "Wolfi Linux", osr["VERSION_ID"], "chainguard")
	case contains(osr["ID"], "chainguard"):
		set("chainguard", "Chainguard Linux", osr["VERSION_ID"], "chainguard")
	default:
		set("linux", "Generic Linux", d.release)
	}
}

var digits = regexp.MustCompile(`[\d.]+`)

// redhat tells apart the systems of Red Hat's family by their release files.
func (d *detector) redhat(osr map[string]string, lsbID, lsbRelease string) (name, title, release string, ok bool) {
	raw, isRedhat := d.file("/etc/redhat-release")
	system, _ := d.file("/etc/system-release")
	switch {
	case contains(lsbID, "centos"):
		return "centos", "Centos Linux", lsbRelease, true
	case contains(osr["NAME"], "centos"):
		return "centos", "Centos Linux", redhatVersion(raw), true
	}
	for _, file := range []string{"/etc/oracle-release", "/etc/enterprise-release"} {
		if text, there := d.file(file); there {
			return "oracle", "Oracle Linux", redhatVersion(text), true
		}
	}
	switch {
	case contains(lsbID, "scientific"):
		return "scientific", "Scientific Linux", lsbRelease, true
	case contains(osr["ID_LIKE"], "wrlinux"):
		return "wrlinux", "Wind River Linux", osr["VERSION"], true
	case contains(lsbID, "amazon"):
		return "amazon", "Amazon Linux", lsbRelease, true
	case contains(system, "amazon"):
		return redhatName(system), "Amazon Linux", redhatVersion(system), true
	case contains(lsbID, "cloudlinux"):
		return "cloudlinux", "CloudLinux", lsbRelease, true
	case contains(raw, "cloudlinux"):
		return redhatName(raw), "CloudLinux", redhatVersion(raw), true
	case contains(lsbID, "redhat"):
		return "redhat", "Red Hat Linux", lsbRelease, true
	case isRedhat && raw != "":
		return redhatName(raw), "Red Hat Linux", redhatVersion(raw), true
	}
	return "", "", "", false
}

func redhatName(raw string) string {
	if startsFold(raw, "red hat") {
		return "redhat"
	}
	return strings.ToLower(regexp.MustCompile(`\w+`).FindString(raw))
}

var redhatVersions = []struct{ when, version *regexp.Regexp }{
	{regexp.MustCompile(`(?i)rawhide`), regexp.MustCompile(`(?i)(\d+ \(Rawhide\))`)},
	{regexp.MustCompile(`(?i)amazon linux`), regexp.MustCompile(`([\d.]+)`)},
	{regexp.MustCompile(`(?i)derived from .*linux|amazon`), regexp.MustCompile(`(?i)Linux ([\d.]+)`)},
	{regexp.MustCompile(``), regexp.MustCompile(`release ([\d.]+)`)},
}

func redhatVersion(raw string) string {
	for _, v := range redhatVersions {
		if v.when.MatchString(raw) {
			if m := v.version.FindStringSubmatch(raw); m != nil {
				return strings.ToLower(m[1])
			}
			return ""
		}
	}
	return ""
}

func (d *detector) suse(osr map[string]string) (release string, ok bool) {
	if contains(osr["ID_LIKE"], "suse") {
		return osr["VERSION"], true
	}
	raw, ok := d.file("/etc/SuSE-release")
	if !ok {
		return "", false
	}
	if m := regexp.MustCompile(`VERSION = (\d+)\nPATCHLEVEL = (\d+)`).FindStringSubmatch(raw); m != nil {
		return m[1] + "." + m[2], true
	}
	if m := regexp.MustCompile(`VERSION\s?=\s?"?([\d.]{2,})"?`).FindStringSubmatch(raw); m != nil {
		return m[1], true
	}
	return "", true
}

func (d *detector) osRelease() map[string]string {
	text, _ := d.file("/etc/os-release")
	return parseOSRelease(text)
}

// parseOSRelease reads os-release(5) as train does: the value without the
// quotes around it, escapes left alone.
func parseOSRelease(text string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok && value != "" {
			values[key] = strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`)
		}
	}
	return values
}

var (
	lsbIDLine      = regexp.MustCompile(`(?m)^DISTRIB_ID=["']?(.+?)["']?$`)
	lsbReleaseLine = regexp.MustCompile(`(?m)^DISTRIB_RELEASE=["']?(.+?)["']?$`)
)

func (d *detector) lsb() (id, release string) {
	text, _ := d.file("/etc/lsb-release")
	if m := lsbIDLine.FindStringSubmatch(text); m != nil {
		id = m[1]
	}
	if m := lsbReleaseLine.FindStringSubmatch(text); m != nil {
		release = m[1]
	}
	return id, release
}

// elfMachine says the architecture as uname -m would, from the header of a
// program that every root filesystem has; empty when none does.
func (d *detector) elfMachine() string {
	names := map[elf.Machine]string{
		elf.EM_X86_64: "x86_64", elf.EM_AARCH64: "aarch64", elf.EM_386: "i686", elf.EM_ARM: "armv7l",
		elf.EM_PPC64: "ppc64le", elf.EM_S390: "s390x", elf.EM_RISCV: "riscv64",
	}
	for _, name := range []string{"/bin/sh", "/sbin/init", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"} {
		data, err := d.t.ReadFile(d.ctx, name, 16<<20)
		if err != nil {
			continue
		}
		if f, err := elf.NewFile(bytes.NewReader(data)); err == nil {
			return names[f.Machine]
		}
	}
	return ""
}

func contains(s, lower string) bool { return strings.Contains(strings.ToLower(s), lower) }

func startsFold(s, lower string) bool { return strings.HasPrefix(strings.ToLower(s), lower) }
