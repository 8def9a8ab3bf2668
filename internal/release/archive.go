package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is one entry of an archive; the name of a folder ends with a slash.
// Link makes it a symbolic link.
type file struct {
	Name string
	Mode int64
	Body []byte
	Link string
}

// readFile makes an entry of a file of this machine.
func readFile(name string, mode int64, path string) (file, error) {
	body, err := os.ReadFile(path)
	return file{Name: name, Mode: mode, Body: body}, err
}

// writeTar writes files as they come, owned by root and all of the age at.
func writeTar(w io.Writer, files []file, at time.Time) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Mode: f.Mode, Size: int64(len(f.Body)), Typeflag: tar.TypeReg, ModTime: at, Format: tar.FormatGNU}
		switch {
		case f.Link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Link, 0o777
		case strings.HasSuffix(f.Name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		if _, err := t.Write(f.Body); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return t.Close()
}

// tarGz is files in a compressed archive, with the folders that they are in.
func tarGz(files []file, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if err := writeTar(z, withFolders(files), at); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// withFolders is files in the order of their names, each after its folders.
func withFolders(files []file) []file {
	all := map[string]file{}
	for _, f := range files {
		all[f.Name] = f
		prefix := ""
		if strings.HasPrefix(f.Name, "./") { // as Debian's packages have it
			prefix = "./"
		}
		for dir := filepath.Dir(strings.TrimPrefix(f.Name, prefix)); dir != "."; dir = filepath.Dir(dir) {
			all[prefix+dir+"/"] = file{Name: prefix + dir + "/", Mode: 0o755}
		}
		if prefix != "" {
			all[prefix] = file{Name: prefix, Mode: 0o755}
		}
	}
	sorted := make([]file, 0, len(all))
	for _, f := range all {
		sorted = append(sorted, f)
	}
	slices.SortFunc(sorted, func(a, b file) int { return strings.Compare(a.Name, b.Name) })
	return sorted
}
