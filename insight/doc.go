// Package insight keeps what agents learn of the workloads in their
// clusters: facts, problems, SBOMs and image inspects, environment by
// environment.
//
// # Flow
//
// An agent takes what it is given (insight/ingest, insight/kube) into its
// spool as the message that insight/lagoon defines, and insight/link carries
// it to the hub, at least once and in order. There Service.Accept stores it:
// a document as a blob first, then everything else in one transaction with
// the receipt of the item's id. A repeat finds the receipt and changes
// nothing.
//
// # What replaces what
//
// The facts of a message replace all facts of the same environment, source
// and service; problems likewise. A deletion without a service is for every
// service of its source. An SBOM or image inspect becomes the current one of
// its cluster, namespace and service; the earlier ones stay as history.
//
// # What is known of components
//
// A component is kept once, by its purl, however many SBOMs have it, and so are
// the vulnerabilities that it has (insight/osv). Where it is now are the current
// SBOMs with it; where it runs are the workloads of the agents' inventories
// whose image one of the SBOMs is about or, where that isn't said, the service's.
// A statement (insight/vex) clears a problem where it covers the component and
// the SBOM; the latest that does holds.
//
// # What there is
//
// An agent's View names the namespaces of its cluster, each with a digest of its
// contents, and has the contents of those that are new. The hub keeps the digests
// with the contents, and answers of which namespaces it has others: these come
// next. So a report is as large as what has changed, a cluster's size has no limit,
// and whoever has lost something, or was told something by another version
// meanwhile, gets it again; a hub that is to keep more of contents than before has
// to forget the digests. Only a view of which nothing is missing ends anything,
// and what it is without is forgotten only once it has been for a while (see
// Store.PutView): it may have crashed. An Inventory is what older versions of
// agents and hubs have instead: all workloads, whole each time.
//
// # Failure
//
// What can't be understood (InvalidError) never will be: it is kept with the
// reason in quarantine, where it is seen, and holds nothing back; Requeue takes
// it in after all, once the hub can. Every other
// error means that nothing was stored and the sender is to try again.
package insight
