// Command image makes the image of reeve-scanner, which ephemeral containers
// and sidecars run, or of reeve itself: one static program and nothing else, in
// an OCI archive that skopeo, crane, docker load, podman load and ctr images
// import take.
//
//	go run ./deploy/image -o scanner.tar -name registry.example/reeve-scanner:1 -arch amd64,arm64
//	go run ./deploy/image -program reeve -o reeve.tar -name registry.example/reeve:1
//
// The same source makes the same bytes.
package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func main() {
	out := flag.String("o", "reeve-scanner.tar", "`file` to write")
	name := flag.String("name", "reeve-scanner:dev", "`reference` of the image")
	archs := flag.String("arch", "amd64", "`architectures`, with commas between them")
	program := flag.String("program", "reeve-scanner", "`program` of the image, reeve-scanner or reeve")
	flag.Parse()
	if err := run(*program, *out, *name, strings.Split(*archs, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(2)
	}
}

func run(program, out, name string, archs []string) error {
	dir, err := os.MkdirTemp("", "reeve-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	images := make([]v1.Image, len(archs))
	for i, arch := range archs {
		if images[i], err = build(dir, program, arch); err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
	}
	path, err := layout.Write(filepath.Join(dir, "oci"), empty.Index)
	if err != nil {
		return err
	}
	annotations := layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": name[strings.LastIndex(name, ":")+1:],
		"io.containerd.image.name":          name,
	})
	if len(images) == 1 {
		err = path.AppendImage(images[0], annotations)
	} else {
		index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
		for i, img := range images {
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: archs[i]}}})
		}
		err = path.AppendIndex(index, annotations)
	}
	if err != nil {
		return err
	}
	return archive(out, filepath.Join(dir, "oci"))
}

// build makes the image for one architecture.
func build(dir, program, arch string) (v1.Image, error) {
	file := filepath.Join(dir, program+"-"+arch)
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", file, "reeve.dev/reeve/cmd/"+program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go build: %w", err)
	}
	body, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: program, Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
		return nil, err
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return nil, err
	}
	return mutate.ConfigFile(img, withProgram(img, program, arch))
}

// withProgram is the configuration of the image, which runs as nobody in
// particular: reeve-scanner, as a sidecar, waits for scans.
func withProgram(img v1.Image, program, arch string) *v1.ConfigFile {
	config, err := img.ConfigFile()
	if err != nil {
		panic(err) // img is in memory
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Config.Entrypoint, config.Config.User = []string{"/" + program}, "65532:65532"
	if program == "reeve-scanner" {
		config.Config.Cmd = []string{"wait"}
	}
	return config
}

// archive writes the files of dir into a tar file.
func archive(out, dir string) (err error) {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err = w.Write(body)
		return err
	})
	for _, end := range []func() error{w.Close, f.Close} {
		if e := end(); err == nil {
			err = e
		}
	}
	return err
}
