package resource_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reeve.dev/reeve/inspec/resource/rpmdb"
	"reeve.dev/reeve/inspec/resource/rpmdb/rpmdbtest"
)

func lay(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (w *world) expect(t *testing.T, cases map[string]string) {
	t.Helper()
	for src, want := range cases {
		if got := w.says(t, src); got != want {
			t.Errorf("%s\n got %s\nwant %s", src, got, want)
		}
	}
}

// TestPackage_RPMFiles asks a root filesystem of which nothing is run.
func TestPackage_RPMFiles(t *testing.T) {
	db := string(rpmdbtest.NDB([]rpmdb.Package{
		{Name: "bash", Version: "5.1.8", Release: "9.el9", Arch: "x86_64"},
		{Name: "kernel", Version: "5.14.0", Release: "1.el9", Arch: "x86_64"},
		{Name: "kernel", Version: "5.14.0", Release: "2.el9", Arch: "x86_64"},
	}))
	release := map[string]string{"etc/redhat-release": "Red Hat Enterprise Linux release 9.5 (Plow)\n"}
	with := func(name, text string) string {
		return lay(t, map[string]string{"etc/redhat-release": release["etc/redhat-release"], name: text})
	}
	newWorld(t, "dir:"+with("usr/lib/sysimage/rpm/Packages.db", db)).expect(t, map[string]string{
		"inspec.package('bash').installed?":               "true",
		"inspec.package('bash').version":                  `"5.1.8-9.el9"`,
		"inspec.package('bash-5.1.8').installed?":         "true",
		"inspec.package('bash-5.1.8-9.el9').installed?":   "true",
		"inspec.package('bash.x86_64').installed?":        "true",
		"inspec.package('bash.i686').installed?":          "false",
		"inspec.package('bas').installed?":                "false",
		"inspec.package('kernel').version":                `"5.14.0-2.el9"`,
		"inspec.package('ker*').installed?":               "!package ker*: a pattern, or an epoch, needs the target's own rpm",
		"inspec.packages(/^k/).versions":                  `["5.14.0-1.el9", "5.14.0-2.el9"]`,
		"inspec.packages('bash').architectures":           `["x86_64"]`,
		"inspec.package('bash').info":                     `{:name=>"bash", :installed=>true, :held=>false, :version=>"5.1.8-9.el9"}`,
		"inspec.package('none').version.inspect":          `"nil"`,
		"inspec.package('bash').to_s":                     `"System Package bash"`,
		"inspec.packages(/^none/).entries.empty?.to_s":    `"true"`,
		"inspec.package('bash-5.1.8-9.el9.x86_64').held?": "false",
	})
	for dir, want := range map[string]string{
		lay(t, release): "!the target has no rpm database in /usr/lib/sysimage/rpm or /var/lib/rpm",
		with("var/lib/rpm/rpmdb.sqlite", "SQLite format 3\x00"): "!/var/lib/rpm/rpmdb.sqlite: not an rpm database: ",
	} {
		if got := newWorld(t, "dir:"+dir).says(t, "inspec.package('bash').installed?"); !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestPackage_PacmanFiles(t *testing.T) {
	dir := lay(t, map[string]string{
		"etc/arch-release":                              "",
		"etc/os-release":                                "ID=arch\n",
		"var/lib/pacman/local/bash-5.2.37-1/desc":       "%NAME%\nbash\n\n%VERSION%\n5.2.37-1\n\n%ARCH%\nx86_64\n",
		"var/lib/pacman/local/bash-completion-2-1/desc": "%NAME%\nbash-completion\n\n%VERSION%\n2-1\n",
	})
	newWorld(t, "dir:"+dir).expect(t, map[string]string{
		"inspec.package('bash').version":            `"5.2.37-1"`,
		"inspec.package('bash-completion').version": `"2-1"`,
		"inspec.package('zsh').installed?":          "false",
	})
}

// TestService_Files shows that without systemctl, or a script in init.d, there
// is no service, and that of one that there may be nothing is said.
func TestService_Files(t *testing.T) {
	debian := map[string]string{"etc/debian_version": "12.1\n", "lib/systemd/system/ssh.service": "[Service]\n"}
	newWorld(t, "dir:"+lay(t, debian)).expect(t, map[string]string{
		"inspec.service('ssh').installed?": "false", "inspec.service('ssh').enabled?": "false", "inspec.service('ssh').running?": "false",
	})
	dir := lay(t, debian)
	if err := os.MkdirAll(filepath.Join(dir, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "usr/bin/systemctl"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	const unable = "!this target is files alone: no command can be run on it; scan it as chroot: or in a running container to answer this"
	newWorld(t, "dir:"+dir).expect(t, map[string]string{"inspec.service('ssh').installed?": unable, "inspec.service('ssh').running?": unable})
	newWorld(t, "dir:"+lay(t, map[string]string{"etc/alpine-release": "3.20.1\n", "etc/init.d/crond": ""})).expect(t, map[string]string{
		"inspec.service('sshd').installed?": "false", "inspec.service('crond').running?": unable,
	})
}
