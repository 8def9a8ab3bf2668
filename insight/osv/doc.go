// Package osv finds the known vulnerabilities of components. It works on OSV
// databases (https://ossf.github.io/osv-schema/), imported from the zip files
// that osv.dev exports for each ecosystem; it asks nobody while it matches.
//
// # Flow
//
// Importer.Import reads the entries of a zip file that are new or were changed,
// writes them by the thousand, each batch in one transaction that also notes the
// packages that they are, or were, about. A component that is new in an SBOM
// notes its package, too. Matcher.Run takes noted packages and finds anew which
// of their components have which vulnerability, in one transaction for some
// packages; so after a crash it goes on where it was, and a new database costs
// only what changed in it.
//
// A finding belongs to a component, however many SBOMs have that. What stands
// in the lists of problems is findings joined with the current SBOMs.
//
// # What matches
//
// A component's purl gives its package (insight.PackageOf): for distributions
// the source package and the release. It is affected when its version is listed,
// or in a range of type ECOSYSTEM or SEMVER; versions are compared by
// osv-scalibr's rules. A component of a distribution whose release isn't known,
// and ranges of type GIT, match nothing. Entries that were withdrawn are
// removed.
package osv
