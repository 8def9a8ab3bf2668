// Package remedy acts on a workload because of a scan's outcome, by hooks that
// the owner of a cluster has defined at his agent: it annotates the workload,
// labels it as long as it fails, or starts a Job.
//
// The hub says what happened and names a hook; what the hook does, in which
// namespaces, and by which account of the cluster's, is the owner's
// configuration alone. Nothing that comes from the hub is more than a value in
// it, and each such value is held against its syntax first.
//
//	hub: outcome ─► rule ─► outbox, sink "remedy:HOOK" ── POST /v1/remedies/HOOK ──► agent: hook ─► Kubernetes API
//
// The hub tells each outcome at least once and in order, so acting again must
// change nothing: annotations and labels are set to the same values, and a Job
// is named for the outcome. A hook hears of outcomes that passed, too: they
// take the labels off.
package remedy
