package release

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"strings"
	"time"
)

// deb is a Debian package: deb(5).
type deb struct {
	Package, Version, Arch string
	Summary, Description   string
	Files                  []file // by absolute path
	Unit                   string // of systemd
}

// bytes are those of the package.
func (d deb) bytes(at time.Time) ([]byte, error) {
	var data []file
	var size int
	var sums, conffiles strings.Builder
	for _, f := range d.Files {
		size += len(f.Body)
		if f.Link == "" {
			fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(f.Body), strings.TrimPrefix(f.Name, "/"))
		}
		if strings.HasPrefix(f.Name, "/etc/") {
			fmt.Fprintln(&conffiles, f.Name)
		}
		f.Name = "." + f.Name
		data = append(data, f)
	}
	control := fmt.Sprintf(`Package: %s
Version: %s
Architecture: %s
Maintainer: The Reeve maintainers <maintainers@reeve.dev>
Installed-Size: %d
Section: admin
Priority: optional
Homepage: https://reeve.dev
Description: %s
%s`, d.Package, debVersion(d.Version), d.Arch, (size+1023)/1024, d.Summary, paragraphs(d.Description))
	scripts := []file{
		{Name: "./control", Mode: 0o644, Body: []byte(control)},
		{Name: "./md5sums", Mode: 0o644, Body: []byte(sums.String())},
	}
	if conffiles.Len() > 0 {
		scripts = append(scripts, file{Name: "./conffiles", Mode: 0o644, Body: []byte(conffiles.String())})
	}
	if d.Unit != "" {
		// It isn't started by itself: first it needs a configuration.
		scripts = append(scripts,
			file{Name: "./postinst", Mode: 0o755, Body: fmt.Appendf(nil, script, "configure", "systemctl --system daemon-reload && systemctl try-restart "+d.Unit)},
			file{Name: "./prerm", Mode: 0o755, Body: fmt.Appendf(nil, script, "remove", "systemctl stop "+d.Unit)},
			file{Name: "./postrm", Mode: 0o755, Body: fmt.Appendf(nil, script, "remove", "systemctl --system daemon-reload")})
	}
	controlTar, err := tarGz(scripts, at)
	if err != nil {
		return nil, err
	}
	dataTar, err := tarGz(data, at)
	if err != nil {
		return nil, err
	}
	return ar([]file{{Name: "debian-binary", Body: []byte("2.0\n")}, {Name: "control.tar.gz", Body: controlTar}, {Name: "data.tar.gz", Body: dataTar}}, at), nil
}

const script = `#!/bin/sh
set -e
if [ "$1" = %s ] && [ -d /run/systemd/system ]; then
	%s || true
fi
`

// debVersion puts what comes before a release before it: 1.0.0~rc1.
func debVersion(v string) string { return strings.Replace(v, "-", "~", 1) }

// paragraphs are the lines of a description, each after a space.
func paragraphs(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(text)) {
		line = strings.TrimSpace(line)
		if line == "" {
			line = "."
		}
		b.WriteString(" " + line + "\n")
	}
	return b.String()
}

// ar is the archive format of ar(5), as deb(5) wants it.
func ar(files []file, at time.Time) []byte {
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, f := range files {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", f.Name, max(at.Unix(), 0), 0, 0, "100644", len(f.Body))
		b.Write(f.Body)
		if len(f.Body)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}
