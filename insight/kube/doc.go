// Package kube takes insights from ConfigMaps, and gives the namespaces of a
// cluster the tokens with which their workloads post insights themselves.
//
// # A ConfigMap's states
//
//	labelled lagoon.sh/insightsType, nothing else       to be taken
//	… annotated lagoon.sh/insightsProcessed             taken; deleted where BurnAfterReading is set
//	… labelled lagoon.sh/insightsWriteDeferred          couldn't be taken; not before the time it names
//	… labelled insights.lagoon.sh/max-retry-exceeded    given up, by someone else or where MaxRetries is set
//
// A ConfigMap is annotated after the spool has it on the disk, and only at
// the version that was read: one that its producer replaced meanwhile is
// taken again. A crash between the two takes the same version again under
// the same item id, which the spool and the hub know.
//
// # Cost
//
// The cache holds the metadata of the labelled ConfigMaps, without payloads;
// one payload at a time is in memory.
//
// # Rights
//
// configmaps: list, watch, get, patch (and delete, to burn); namespaces: get;
// for tokens also namespaces: list, watch; secrets: list, create, delete, and
// patch where tokens end; for the election of a leader leases: get, create,
// update in the agent's own namespace.
package kube
