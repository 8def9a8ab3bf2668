// Package image makes targets of container images without running anything of
// them: archive:FILE, as docker save, podman save, buildx and skopeo write it,
// and image:REFERENCE, from a registry.
//
// The layers are unpacked into nothing: what is kept is a tree of names, modes
// and owners in memory, and the contents in temporary files that have no name
// and so vanish with the process. Owners, device files and setuid bits are
// what the image says, whoever runs the scan.
//
// Layers are applied as the OCI image specification says (layer.md): first the
// whiteouts of a layer, which concern the layers below alone, then its files.
// A link never leads out of the image. Each layer must have the digest that
// the image's configuration gives for it.
//
// An image is untrusted. Its files, their number and the length of a path are
// limited before they take memory or disk; whatever exceeds a limit, is cut
// short or has another digest is an error, since half an image would pass for
// a clean one.
package image
