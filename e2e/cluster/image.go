package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Image is a container image made on the spot: a busybox root and files.
type Image struct {
	Name  string // such as "reeve.test/web:1"
	Bare  bool   // has busybox alone, at its root, and no shell
	Cmd   []string
	Env   []string
	User  string
	Files []File
}

// File is one entry of an image. A Mode of zero means 0644, or 0755 for a
// folder; Link makes it a symbolic link.
type File struct {
	Path string // without the leading slash; a folder ends with one
	Body string
	Mode int64
	UID  int
	GID  int
	Link string
}

// Load makes an image known to the node; pods name it with
// imagePullPolicy: Never.
func (c *Cluster) Load(_ context.Context, img Image) error {
	layer, err := img.layer()
	if err != nil {
		return fmt.Errorf("image %s: %w", img.Name, err)
	}
	diff := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": time.Unix(0, 0).UTC(),
		"config": map[string]any{"Cmd": img.Cmd, "Env": append([]string{"PATH=/bin"}, img.Env...), "User": img.User},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(diff[:])}},
	})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(config)
	name := hex.EncodeToString(sum[:]) + ".json"
	manifest, err := json.Marshal([]map[string]any{{"Config": name, "RepoTags": []string{img.Name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range []File{{Path: name, Body: string(config)}, {Path: "layer.tar", Body: string(layer)}, {Path: "manifest.json", Body: string(manifest)}} {
		if err := f.write(w); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	path := filepath.Join(c.Dir, strings.NewReplacer("/", "_", ":", "_").Replace(img.Name)+".tar")
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		return err
	}
	return c.Import(path)
}

// Import makes the image of an archive known to the node.
func (c *Cluster) Import(path string) error { return c.ctr("images", "import", path) }

// applets are the busybox commands that an image's /bin has.
var applets = strings.Fields("sh ash cat ls stat readlink find grep sed awk head tail cut sort uniq wc tr id ps sleep test echo printf env uname hostname mkdir rm cp mv chmod chown touch ln true false date dd od hexdump md5sum sha256sum base64 xargs which whoami netstat mount df du tee sysctl httpd nc tar stty")

func (img Image) layer() ([]byte, error) {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, err
	}
	files := []File{{Path: "busybox", Body: string(busybox), Mode: 0o755}, {Path: "etc/"}, {Path: "proc/"}}
	if !img.Bare {
		files = rootFiles(string(busybox))
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range append(files, img.Files...) {
		if err := f.write(w); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func rootFiles(busybox string) []File {
	files := []File{{Path: "bin/"}, {Path: "etc/"}, {Path: "tmp/", Mode: 0o1777}, {Path: "proc/"}, {Path: "dev/"}, {Path: "sys/"}, {Path: "bin/busybox", Body: busybox, Mode: 0o755}}
	for _, a := range applets {
		files = append(files, File{Path: "bin/" + a, Link: "busybox"})
	}
	return files
}

func (f File) write(w *tar.Writer) error {
	h := &tar.Header{Name: f.Path, Mode: f.Mode, Uid: f.UID, Gid: f.GID, Size: int64(len(f.Body)), Typeflag: tar.TypeReg}
	switch {
	case f.Link != "":
		h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, f.Link, 0
	case strings.HasSuffix(f.Path, "/"):
		h.Typeflag, h.Size = tar.TypeDir, 0
	}
	if h.Mode == 0 {
		h.Mode = 0o644
		if h.Typeflag == tar.TypeDir {
			h.Mode = 0o755
		}
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	if h.Size == 0 {
		return nil
	}
	_, err := w.Write([]byte(f.Body))
	return err
}

func (c *Cluster) loadImages(ctx context.Context) error {
	return c.Load(ctx, Image{Name: "reeve.test/pause:1", Cmd: []string{"/bin/busybox", "sleep", "2147483647"}})
}
