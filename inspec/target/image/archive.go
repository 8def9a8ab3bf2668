package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	maxDocument = 8 << 20 // a manifest, an index, a configuration
	maxBlobs    = 1 << 16 // files of an archive, which hold one layer each
	maxNesting  = 4       // of an index in an index
)

// archive is a tar file of an image, or a folder with an OCI layout. Its blobs
// are read in place.
type archive struct {
	file  *os.File
	root  *os.Root // of a folder, instead
	blobs map[string]blob
}

type blob struct {
	offset, size int64
	link         string // the name of the blob that this one stands for
}

func openArchive(ctx context.Context, name string) (*archive, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("%w; name the file that docker save or skopeo copy wrote", err)
	}
	if info.IsDir() {
		root, err := os.OpenRoot(name)
		return &archive{root: root}, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	a := &archive{file: f, blobs: map[string]blob{}}
	if err := a.plain(ctx); err != nil {
		a.Close()
		return nil, err
	}
	if err := a.list(); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *archive) Close() error {
	if a.root != nil {
		return a.root.Close()
	}
	return a.file.Close()
}

// plain replaces a compressed archive by what it holds.
func (a *archive) plain(ctx context.Context) error {
	content, compressed, err := decompress(a.file)
	if err != nil {
		return err
	}
	if !compressed {
		_, err := a.file.Seek(0, io.SeekStart)
		return err
	}
	defer content.Close()
	f, err := spoolFile()
	if err != nil {
		return err
	}
	limit := defaultLimits().bytes
	n, err := io.Copy(f, io.LimitReader(&cancelled{ctx, content}, limit+1))
	if err == nil && n > limit {
		err = tooMuch("bytes", limit)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("decompress the archive: %w", err)
	}
	a.file.Close()
	a.file = f
	return nil
}

// list finds the archive's files.
func (a *archive) list() error {
	r := tar.NewReader(a.file) // reads headers alone, seeks over the rest
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the archive is no tar file, or is cut short: %w", err)
		}
		b := blob{size: h.Size}
		switch h.Typeflag {
		case tar.TypeReg:
			if b.offset, err = a.file.Seek(0, io.SeekCurrent); err != nil {
				return err
			}
		case tar.TypeSymlink: // docker saved a layer that occurs twice so
			b.link = path.Join(path.Dir(h.Name), h.Linkname)
		case tar.TypeLink:
			b.link = path.Clean(h.Linkname)
		default:
			continue
		}
		a.blobs[path.Clean(h.Name)] = b
		if len(a.blobs) > maxBlobs {
			return tooMuch("files in the archive", maxBlobs)
		}
	}
}

// open returns the file of that name in the archive.
func (a *archive) open(name string) (io.ReadCloser, error) {
	if a.root != nil {
		return a.root.Open(name)
	}
	for range 8 {
		b, ok := a.blobs[path.Clean(name)]
		switch {
		case !ok:
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		case b.link != "":
			name = b.link
			continue
		}
		return io.NopCloser(io.NewSectionReader(a.file, b.offset, b.size)), nil
	}
	return nil, fmt.Errorf("%s is a link of links", name)
}

// document reads a small file of the archive.
func (a *archive) document(name string) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err == nil && len(data) > maxDocument {
		err = fmt.Errorf("%s: %w", name, tooMuch("bytes", maxDocument))
	}
	return data, err
}

// layers finds the layers of the image that is wanted.
func (a *archive) layers(want choice) ([]layer, error) {
	switch index, err := a.document("index.json"); {
	case err == nil:
		return a.oci(index, want)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	switch manifest, err := a.document("manifest.json"); {
	case err == nil:
		return a.docker(manifest, want)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return nil, errors.New("the archive holds neither an OCI layout (index.json) nor what docker save writes (manifest.json); unpack the archive of a root filesystem, as docker export writes it, and scan it as dir:PATH")
}

func blobName(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }

// verified reads a document that must have the digest.
func (a *archive) verified(d v1.Hash) ([]byte, error) {
	data, err := a.document(blobName(d))
	if err != nil {
		return nil, err
	}
	got, _, err := v1.SHA256(bytes.NewReader(data))
	if err == nil && got != d {
		err = fmt.Errorf("%s has the digest %s: the archive is damaged", d, got)
	}
	return data, err
}

// candidate is an image of an archive.
type candidate struct {
	names    []string
	platform v1.Platform
	manifest *v1.Manifest
	config   *v1.ConfigFile
}

// oci reads an OCI image layout.
func (a *archive) oci(data []byte, want choice) ([]layer, error) {
	index, err := v1.ParseIndexManifest(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	all, err := a.candidates(index, nil, 0)
	if err != nil {
		return nil, err
	}
	c, err := choose(all, want)
	if err != nil {
		return nil, err
	}
	layers := make([]layer, len(c.manifest.Layers))
	for i, d := range c.manifest.Layers {
		layers[i] = a.layer(blobName(d.Digest))
	}
	return withDiffIDs(layers, c.config)
}

func (a *archive) layer(name string) layer {
	return layer{name: name, open: func() (io.ReadCloser, error) { return a.open(name) }}
}

// candidates lists the images of an index, those of the indexes in it with
// their names.
func (a *archive) candidates(index *v1.IndexManifest, names []string, depth int) ([]candidate, error) {
	if depth > maxNesting {
		return nil, tooMuch("indexes, one in the other", maxNesting)
	}
	var all []candidate
	for _, d := range index.Manifests {
		names := names
		for _, key := range []string{"org.opencontainers.image.ref.name", "io.containerd.image.name"} {
			if n := d.Annotations[key]; n != "" && !slices.Contains(names, n) {
				names = append(slices.Clip(names), n)
			}
		}
		switch {
		case d.Annotations["vnd.docker.reference.type"] != "": // an attestation
		case d.MediaType.IsIndex():
			data, err := a.verified(d.Digest)
			if err != nil {
				return nil, err
			}
			nested, err := v1.ParseIndexManifest(bytes.NewReader(data))
			if err != nil {
				return nil, fmt.Errorf("index %s: %w", d.Digest, err)
			}
			more, err := a.candidates(nested, names, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
		case d.MediaType.IsImage():
			c, err := a.candidate(d, names)
			if errors.Is(err, fs.ErrNotExist) && len(index.Manifests) > 1 {
				continue // saved for some of its platforms alone
			}
			if err != nil {
				return nil, err
			}
			all = append(all, c)
		}
		if len(all) > maxBlobs {
			return nil, tooMuch("images", maxBlobs)
		}
	}
	return all, nil
}

func (a *archive) candidate(d v1.Descriptor, names []string) (candidate, error) {
	c := candidate{names: names}
	data, err := a.verified(d.Digest)
	if err != nil {
		return c, err
	}
	if c.manifest, err = v1.ParseManifest(bytes.NewReader(data)); err != nil {
		return c, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	if !slices.Contains([]types.MediaType{types.OCIConfigJSON, types.DockerConfigJSON}, c.manifest.Config.MediaType) {
		return c, fmt.Errorf("manifest %s: it is of %s, no container image", d.Digest, c.manifest.Config.MediaType)
	}
	if data, err = a.verified(c.manifest.Config.Digest); err != nil {
		return c, err
	}
	if c.config, err = v1.ParseConfigFile(bytes.NewReader(data)); err != nil {
		return c, fmt.Errorf("configuration %s: %w", c.manifest.Config.Digest, err)
	}
	c.platform = platformOf(c.config)
	if d.Platform != nil {
		c.platform = *d.Platform
	}
	return c, nil
}

// choose takes the image that is wanted: by its name, then by its platform.
func choose(all []candidate, want choice) (candidate, error) {
	var names, platforms []string
	for _, c := range all {
		names = append(names, c.names...)
	}
	names = unique(names)
	if want.image != "" {
		all = slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return !slices.Contains(c.names, want.image) })
	}
	for _, c := range all {
		platforms = append(platforms, c.platform.String())
	}
	choices := strings.Join(unique(platforms), ", ")
	platform := here()
	if want.platform != nil {
		platform = *want.platform
	}
	fit := slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return !c.platform.Satisfies(platform) })
	switch {
	case len(all) == 0 && want.image != "":
		return candidate{}, fmt.Errorf("the archive holds no image %q; it has %s", want.image, strings.Join(names, ", "))
	case len(all) == 0:
		return candidate{}, errors.New("the archive holds no container image")
	case len(fit) == 0 && len(all) == 1 && want.platform == nil:
		return all[0], nil
	case len(fit) == 0:
		return candidate{}, fmt.Errorf("the archive holds no image for %s; choose with ?platform= one of %s", platform, choices)
	case len(fit) > 1:
		if len(names) > 1 {
			return candidate{}, fmt.Errorf("the archive holds several images; choose with ?image= one of %s", strings.Join(names, ", "))
		}
		return candidate{}, fmt.Errorf("the archive holds several images for %s without names of their own; save the one that is to be scanned alone", platform)
	}
	return fit[0], nil
}

func unique(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}

// docker reads what docker save wrote before it wrote OCI layouts, and podman
// save still does.
func (a *archive) docker(data []byte, want choice) ([]layer, error) {
	var images []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(data, &images); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	var names []string
	chosen := -1
	for i, img := range images {
		names = append(names, img.RepoTags...)
		if want.image == "" && len(images) == 1 || slices.Contains(img.RepoTags, want.image) {
			chosen = i
		}
	}
	switch {
	case chosen < 0 && want.image != "":
		return nil, fmt.Errorf("the archive holds no image %q; it has %s", want.image, strings.Join(unique(names), ", "))
	case chosen < 0:
		return nil, fmt.Errorf("the archive holds %d images; choose with ?image= one of %s", len(images), strings.Join(unique(names), ", "))
	}
	img := images[chosen]
	raw, err := a.document(img.Config)
	if err != nil {
		return nil, err
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", img.Config, err)
	}
	if got := platformOf(config); want.platform != nil && !got.Satisfies(*want.platform) {
		return nil, fmt.Errorf("the image is for %s, not for %s", got, want.platform)
	}
	layers := make([]layer, len(img.Layers))
	for i, name := range img.Layers {
		layers[i] = a.layer(name)
	}
	return withDiffIDs(layers, config)
}
