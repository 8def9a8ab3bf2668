package resource

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/resource/rpmdb"
	"reeve.dev/reeve/inspec/target"
)

// rpmFolders are where rpm keeps its database; one is often a link to the
// other.
var rpmFolders = []string{"/usr/lib/sysimage/rpm", "/var/lib/rpm"}

// rpmFiles are the names that it has there, one for each form.
var rpmFiles = []string{"rpmdb.sqlite", "Packages.db", "Packages"}

// rpmAll lists rpm's packages without rpm, in the order in which they were
// installed. They are read once from a folder, which is empty for the usual
// ones.
func (s *Set) rpmAll(dbpath string) ([]packageInfo, error) {
	if all, ok := s.rpms[dbpath]; ok {
		return slices.Clone(all), nil
	}
	folders := rpmFolders
	if dbpath != "" {
		folders = []string{dbpath}
	}
	for _, dir := range folders {
		for _, name := range rpmFiles {
			db, ok, err := s.database(dir + "/" + name)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			var log []byte
			if name == "rpmdb.sqlite" {
				if log, _, err = s.database(dir + "/" + name + "-wal"); err != nil {
					return nil, err
				}
			}
			found, err := rpmdb.Read(db, log)
			if err != nil {
				return nil, s.fail("%s/%s: %s", dir, name, err)
			}
			all := make([]packageInfo, len(found))
			for i, p := range found {
				all[i] = packageInfo{name: p.Name, version: p.Version + "-" + p.Release, arch: p.Arch, installed: true}
			}
			if s.rpms == nil {
				s.rpms = map[string][]packageInfo{}
			}
			s.rpms[dbpath] = all
			return slices.Clone(all), nil
		}
	}
	return nil, s.fail("the target has no rpm database in %s", strings.Join(folders, " or "))
}

// database reads a file of a package manager's, which may be larger than those
// that profiles read; false when there is none.
func (s *Set) database(name string) ([]byte, bool, error) {
	data, err := s.t.ReadFile(s.in.Context(), name, target.MaxOutput)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, s.problem(err)
	}
	return data, true, nil
}

// rpmNative finds a package by what rpm -q takes: its name, with its version,
// release and architecture or without. Of several the last counts, as in what
// rpm prints.
func (s *Set) rpmNative(p *packageRes) (packageInfo, error) {
	if strings.ContainsAny(p.name, "*?[:") {
		return packageInfo{}, s.fail("package %s: a pattern, or an epoch, needs the target's own rpm", p.name)
	}
	all, err := s.rpmAll(p.dbpath)
	var found packageInfo
	for _, info := range all {
		version, _, _ := strings.Cut(info.version, "-")
		for _, label := range []string{info.name, info.name + "-" + version, info.name + "-" + info.version} {
			if p.name == label || p.name == label+"."+info.arch {
				found = info
			}
		}
	}
	return found, err
}

// pacmanNative reads pacman's record of a package, a folder by its name and
// version.
func (s *Set) pacmanNative(p *packageRes) (packageInfo, error) {
	const dir = "/var/lib/pacman/local"
	names, err := s.t.ReadDir(s.in.Context(), dir)
	if err != nil {
		return packageInfo{}, s.problem(err)
	}
	for _, n := range names {
		if !strings.HasPrefix(n, p.name+"-") {
			continue
		}
		text, _, err := s.readOptional(dir + "/" + n + "/desc")
		if err != nil {
			return packageInfo{}, err
		}
		fields := map[string]string{}
		all := lines(text)
		for i := 0; i+1 < len(all); i++ {
			if strings.HasPrefix(all[i], "%") {
				fields[all[i]] = all[i+1]
			}
		}
		if fields["%NAME%"] == p.name {
			return packageInfo{name: p.name, version: fields["%VERSION%"], arch: fields["%ARCH%"], installed: true}, nil
		}
	}
	return packageInfo{}, nil
}
