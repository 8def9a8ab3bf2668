// Package release makes what a release of Reeve consists of: programs, OCI
// images, archives, Debian packages, charts, and what says of them where they
// come from and what is in them.
//
// The same source, version and Go make the same bytes, on any machine and in
// any folder: there is no time in them but that of the source, no path, and
// nothing of the machine. `make release` can be held against a published one.
package release
