package release

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// Image is an image of one program, for one or more architectures of Linux.
// It runs as user 65532 and never writes to its own files.
type Image struct {
	Name              string // a reference, such as registry.example/reeve-agent:1.0.0
	Program           string // reeve, reeve-agent or reeve-scanner
	Version, Revision string // told in labels, if they aren't empty
	// Level is gzip's, of its layers; 0 is the fastest.
	Level int
	// Binaries are the program's files by architecture, as Go names those.
	Binaries []Binary
}

// Binary is a program's file for one architecture.
type Binary struct{ Arch, File string }

// Write makes an OCI archive at path, which skopeo, crane, docker load, podman
// load and ctr images import take.
func (i Image) Write(path string) error {
	dir, err := os.MkdirTemp("", "reeve-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	oci, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	annotations := layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": i.Name[strings.LastIndex(i.Name, ":")+1:],
		"io.containerd.image.name":          i.Name,
	})
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var last v1.Image
	for _, b := range i.Binaries {
		if last, err = i.image(b); err != nil {
			return fmt.Errorf("%s: %w", b.Arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: last, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: b.Arch}}})
	}
	if len(i.Binaries) == 1 {
		err = oci.AppendImage(last, annotations)
	} else {
		err = oci.AppendIndex(index, annotations)
	}
	if err != nil {
		return err
	}
	return tarDir(path, dir)
}

// image makes the image for one architecture.
func (i Image) image(b Binary) (v1.Image, error) {
	body, err := os.ReadFile(b.File)
	if err != nil {
		return nil, err
	}
	files := []file{{Name: i.Program, Mode: 0o755, Body: body}}
	if i.Program != "reeve-scanner" { // which has nothing to do with others
		roots, err := authorities()
		if err != nil {
			return nil, err
		}
		files = append(files,
			file{Name: "etc/", Mode: 0o755},
			file{Name: "etc/passwd", Mode: 0o644, Body: []byte("root:x:0:0:root:/:/sbin/nologin\nreeve:x:65532:65532:reeve:/tmp:/sbin/nologin\n")},
			file{Name: "etc/group", Mode: 0o644, Body: []byte("root:x:0:\nreeve:x:65532:\n")},
			file{Name: "etc/ssl/", Mode: 0o755},
			file{Name: "etc/ssl/certs/", Mode: 0o755},
			file{Name: "etc/ssl/certs/ca-certificates.crt", Mode: 0o644, Body: roots},
			file{Name: "tmp/", Mode: 0o1777},
		)
	}
	var buf bytes.Buffer
	if err := writeTar(&buf, files, time.Time{}); err != nil {
		return nil, err
	}
	options := []tarball.LayerOption{tarball.WithMediaType(types.OCILayer)}
	if i.Level != 0 {
		options = append(options, tarball.WithCompressionLevel(i.Level))
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }, options...)
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", b.Arch
	config.Config.Entrypoint, config.Config.User = []string{"/" + i.Program}, "65532:65532"
	config.Config.Labels = map[string]string{"org.opencontainers.image.title": i.Program, "org.opencontainers.image.licenses": "Apache-2.0"}
	for label, value := range map[string]string{"version": i.Version, "revision": i.Revision} {
		if value != "" {
			config.Config.Labels["org.opencontainers.image."+label] = value
		}
	}
	if i.Program == "reeve-scanner" {
		config.Config.Cmd = []string{"wait"} // as a sidecar it waits for scans
	}
	return mutate.ConfigFile(img, config)
}

// authorities are Mozilla's, as the Go project keeps them, in PEM. Those that
// are trusted only under conditions are left out: a file can't say those.
func authorities() ([]byte, error) {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// tarDir writes the files of dir into a tar file.
func tarDir(out, dir string) error {
	var files []file
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(filepath.Join(dir, name))
		files = append(files, file{Name: name, Mode: 0o644, Body: body})
		return err
	})
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	if err := writeTar(f, files, time.Time{}); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
