package crd

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// Pack makes the archive of a profile of a ConfigMap. A key is the path of a
// file, with two underscores for each slash (controls__web.rb); one that ends in
// .rb and names no folder is a file of controls. An inspec.yml is needed for
// what a profile depends on and the like; its name and version are those that
// the hub is to know it by, which name says, and what is in it.
func Pack(cm *corev1.ConfigMap, prefix string) ([]byte, error) {
	files := map[string]string{}
	for key, text := range cm.Data {
		path := strings.ReplaceAll(key, "__", "/")
		if strings.HasSuffix(path, ".rb") && !strings.Contains(path, "/") {
			path = "controls/" + path
		}
		if _, twice := files[path]; twice {
			return nil, fmt.Errorf("ConfigMap %s/%s has the file %s twice", cm.Namespace, cm.Name, path)
		}
		files[path] = text
	}
	meta := map[string]any{"title": "Of the ConfigMap " + cm.Namespace + "/" + cm.Name}
	if err := yaml.Unmarshal([]byte(files["inspec.yml"]), &meta); err != nil {
		return nil, fmt.Errorf("inspec.yml: %w", err)
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(files)), func(p string) bool { return strings.HasPrefix(p, "controls/") }) {
		return nil, fmt.Errorf("ConfigMap %s/%s has no controls: no key ends in .rb", cm.Namespace, cm.Name)
	}
	sum := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(sum, "%s\n%d\n%s", path, len(files[path]), files[path])
	}
	meta["name"] = prefix + name(cm.Namespace+"_"+cm.Name)
	meta["version"] = fmt.Sprintf("1.0.0+%.12x", sum.Sum(nil))
	text, err := yaml.Marshal(meta)
	if err != nil {
		return nil, fmt.Errorf("inspec.yml: %w", err)
	}
	files["inspec.yml"] = string(text)

	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	w := tar.NewWriter(zip)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(files[path])), Typeflag: tar.TypeReg}); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(files[path])); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// maxText is how long a name may get that the hub is to take.
const maxText = 60

// name is s, or what of it has room and tells it from others.
func name(s string) string {
	if len(s) <= maxText {
		return s
	}
	return fmt.Sprintf("%s-%.6x", s[:maxText-13], sha256.Sum256([]byte(s)))
}
