// Package crd lets people ask for scans by objects of their own cluster, of the
// group reeve.dev/v1alpha1 (deploy/crds): a Scan is one scan of a container of
// its namespace, a ScanPolicy has those of its namespace scanned by a schedule
// or when a new image runs.
//
// The controller belongs to the agent. It asks the hub for what a Scan wants,
// once: the object's UID is the request's key, so that neither a lost answer nor
// a killed agent makes a second scan. Then it shows in the status how the scan
// stands. All ScanPolicies together it hands to the hub, which has the schedules
// and the routes of events, and which so goes on with them whatever becomes of
// the agent; each one's status says whether the hub took it. Who may create the
// objects in a namespace is the cluster's RBAC to say.
package crd
