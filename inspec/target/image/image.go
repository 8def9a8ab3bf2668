package image

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"reeve.dev/reeve/inspec/target"
)

// Takes reports whether uri is for Open.
func Takes(uri string) bool {
	scheme, _, _ := strings.Cut(uri, ":")
	return scheme == "archive" || scheme == "image"
}

// Open opens the image that uri names, archive:FILE or image:REFERENCE. Both
// take ?platform=OS/ARCH[/VARIANT]; without it that of this machine is taken,
// on Linux, or else the only one that there is. An archive of several images
// needs ?image=NAME. ctx governs the opening alone: afterwards the target needs
// neither the archive nor the registry.
func Open(ctx context.Context, uri string) (target.Target, error) {
	scheme, rest, _ := strings.Cut(uri, ":")
	rest, want, err := parseQuery(rest)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", shown(uri), err)
	}
	var layers []layer
	switch {
	case rest == "":
		err = fmt.Errorf("the %s is missing; write archive:FILE.tar or image:REGISTRY/NAME:TAG", map[string]string{"archive": "file", "image": "reference"}[scheme])
	case scheme == "archive":
		var a *archive
		if a, err = openArchive(ctx, rest); err == nil {
			defer a.Close()
			layers, err = a.layers(want)
		}
	case scheme == "image":
		layers, err = pull(ctx, rest, want)
	default:
		err = fmt.Errorf("unknown kind %q; use archive:FILE or image:REFERENCE", scheme)
	}
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", shown(uri), err)
	}
	t, err := unpack(ctx, layers, defaultLimits())
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", shown(uri), err)
	}
	return target.NewFiles(uri, t), nil
}

// shown is uri for errors, without what might be a password in it.
func shown(uri string) string {
	scheme, rest, _ := strings.Cut(uri, ":")
	if scheme == "image" {
		if _, after, ok := strings.Cut(rest, "://"); ok {
			rest = after
		}
		if host, _, _ := strings.Cut(rest, "/"); strings.Contains(strings.ReplaceAll(host, "@sha256:", ""), "@") {
			return `"image:…"`
		}
	}
	return fmt.Sprintf("%q", uri)
}

// choice says which image is wanted where there are several.
type choice struct {
	image    string // its name, empty for the only one
	platform *v1.Platform
}

// parseQuery splits off ?platform= and ?image=. A question mark that begins
// nothing of the kind belongs to the name.
func parseQuery(s string) (rest string, c choice, err error) {
	i := strings.LastIndexByte(s, '?')
	if i < 0 {
		return s, c, nil
	}
	q, err := url.ParseQuery(s[i+1:])
	if err != nil || len(q) == 0 {
		return s, c, nil
	}
	for key, values := range q {
		switch {
		case len(values) != 1 || values[0] == "":
			return s, c, fmt.Errorf("?%s must be given once, with a value", key)
		case key == "image":
			c.image = values[0]
		case key == "platform":
			if c.platform, err = v1.ParsePlatform(values[0]); err != nil || c.platform.Architecture == "" {
				return s, c, fmt.Errorf("platform %q: write OS/ARCH, for example linux/amd64", values[0])
			}
		default:
			return s, choice{}, nil
		}
	}
	return s[:i], c, nil
}

// here is the platform whose image is looked at where none is named.
func here() v1.Platform { return v1.Platform{OS: "linux", Architecture: runtime.GOARCH} }

// platformOf is what a configuration says, which may be nothing.
func platformOf(config *v1.ConfigFile) v1.Platform {
	if p := config.Platform(); p != nil {
		return *p
	}
	return v1.Platform{}
}

// layer is one layer as it is stored, compressed or not.
type layer struct {
	name   string // for errors
	diffID v1.Hash
	open   func() (io.ReadCloser, error)
}

// withDiffIDs gives the layers the digests that the image's configuration says
// their content has.
func withDiffIDs(layers []layer, config *v1.ConfigFile) ([]layer, error) {
	ids := config.RootFS.DiffIDs
	if len(ids) != len(layers) {
		return nil, fmt.Errorf("the image has %d layers, its configuration says %d: it is damaged, or no container image", len(layers), len(ids))
	}
	for i := range layers {
		layers[i].diffID = ids[i]
	}
	return layers, nil
}
