package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// pull finds the layers of an image in its registry; they are fetched when
// they are opened. The credentials are those that docker, podman and their
// credential helpers keep for this user.
func pull(ctx context.Context, reference string, want choice) ([]layer, error) {
	if want.image != "" {
		return nil, errors.New("?image= is for archives; name the image itself")
	}
	ref, err := name.ParseReference(reference)
	if err != nil {
		// The reference isn't repeated: it may be a URL with a password.
		return nil, errors.New("that is no reference of an image; write image:NAME:TAG, image:REGISTRY/NAME:TAG or image:REGISTRY/NAME@sha256:DIGEST, without https:// and without a password (docker login keeps those)")
	}
	platform := here()
	if want.platform != nil {
		platform = *want.platform
	}
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithPlatform(platform), remote.WithUserAgent("reeve"))
	if err != nil {
		return nil, fmt.Errorf("%w (for another platform than %s add ?platform=OS/ARCH)", err, platform)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if got := platformOf(config); want.platform != nil && !got.Satisfies(*want.platform) {
		return nil, fmt.Errorf("the image is for %s, not for %s", got, want.platform)
	}
	stored, err := img.Layers()
	if err != nil {
		return nil, err
	}
	layers := make([]layer, len(stored))
	for i, l := range stored {
		digest, err := l.Digest()
		if err != nil {
			return nil, err
		}
		layers[i] = layer{name: digest.String(), open: l.Compressed}
	}
	return withDiffIDs(layers, config)
}
