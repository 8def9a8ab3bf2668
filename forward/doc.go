// Package forward carries callers' HTTP requests to services that only an
// agent can reach: a Kubernetes API, or anything else that speaks HTTP.
//
//	caller ── services port ── Hub ══ link ══ Agent ── service
//
// [Hub] finds out who the caller is and which service is meant: the one that
// the credential is for, or one that is called by its name. [Rules] decide
// whether it may be, [Limits] when. Hub takes what belongs to Reeve off the
// request, names service and caller in headers of Reeve's own and sends it by
// the agent's link. [Agent] asks the rules of the cluster's owner, and has the
// services' addresses and credentials, which never leave it. What is under way
// ends when its credential is revoked.
//
// Path, query, body, trailers and an Upgrade pass as they are; nothing is
// collected, and nothing limits how long a request may last. When the caller
// goes away, the request to the service ends. What fails on the way is
// answered as a problem (RFC 9457), or as a Status object where the caller is
// a Kubernetes client; a body that breaks off is a broken connection for the
// caller, never a short one that looks whole.
//
// The package knows nothing of carriers and certificates: who may call is
// asked of an [Authenticator], and the way to an agent of [Links].
package forward
