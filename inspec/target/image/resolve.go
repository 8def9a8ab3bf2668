package image

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Resolve finds the digest that image:REFERENCE has now, sha256:HEX, and the URI
// of the image with that digest, which another push to the tag doesn't change.
// Any other target comes back as it is, with no digest. Where there are images
// for several platforms the digest is that of all of them, as a kubelet reports
// it.
func Resolve(ctx context.Context, uri string) (pinned, digest string, err error) {
	scheme, rest, _ := strings.Cut(uri, ":")
	if scheme != "image" {
		return uri, "", nil
	}
	reference, _, err := parseQuery(rest)
	if err != nil {
		return "", "", fmt.Errorf("target %s: %w", shown(uri), err)
	}
	ref, err := name.ParseReference(reference)
	if err != nil {
		return uri, "", nil // Open says what is wrong with it
	}
	descriptor, err := remote.Get(ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithUserAgent("reeve"))
	if err != nil {
		return "", "", fmt.Errorf("target %s: %w", shown(uri), err)
	}
	digest = descriptor.Digest.String()
	return scheme + ":" + ref.Context().Digest(digest).Name() + strings.TrimPrefix(rest, reference), digest, nil
}
