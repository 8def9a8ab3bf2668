// Package sbom finds what software a target holds, and writes it as a bill of
// materials: CycloneDX 1.6 or SPDX 2.3, in JSON.
//
// # How
//
// The regular files of the target are listed: by its own find where it runs
// commands, directory by directory where it doesn't. Those that name packages
// are read by the extractors of osv-scalibr: the databases of dpkg, apk, rpm and
// pacman, Go binaries, Rust binaries (but WebAssembly) with cargo-auditable's section, Java
// archives and those within them, installed packages of npm, Python and Ruby,
// composer.lock, and .NET's deps.json. Of a target that can only be asked over a
// stream, executables are sent for only if its own grep finds in them what such
// a binary has.
//
// Nothing of the target is run but find, stat, grep, tr and dd. What is in a mounted
// volume of a container, in a network file system, or in the store of a
// container runtime isn't the target's own and isn't looked at.
//
// # What isn't found is told
//
// A file that should have been read and couldn't be is in Inventory.Unread, and
// the document says of itself that it is incomplete. That is so, too, of what is
// larger, or inflates to more, than an extractor may be handed.
//
// # Purls
//
// They are spelled as syft and trivy spell them, so that the same package has
// the same purl wherever its SBOM came from: distro=ID-VERSION_ID, upstream= for
// the source of a deb or apk, v before the version of a Go module, stdlib for
// Go's own library.
//
// The package links several MB of parsers. Only cmd/reeve imports it, and only
// unless it is built with the tag nosbom; an agent is handed Read and the
// writers by its command.
package sbom
