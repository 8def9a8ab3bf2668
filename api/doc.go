// Package api is the hub's REST interface, /api/v1, and its description in
// OpenAPI 3.1, served at /openapi.json and checked in beside this file.
//
// Errors are problems of RFC 9457; errors[].location is the path of the
// member that is wrong, such as body.target.pod, and errors[].pointer the same
// as a JSON pointer, #/target/pod. A member that isn't known is
// refused. No answer repeats a value that was sent: it may be a secret.
//
// Birger's control calls are there beside it, under their own names and with
// its shapes (birger.go).
//
// The types of the wire are exported, for programs that call the API.
//
// # Who may call
//
// A caller is known by an API token (Authorization: Bearer reeve_…), by an ID
// token of the hub's issuer, by the session cookie that a one-time login link or
// a login at the issuer gave it, or by a client certificate with the purpose
// control, which makes it an administrator, or user, which has its rights in it;
// in this order, and only the first that is there counts.
//
// Each operation needs a role: viewer, scanner, operator or admin. A caller has
// it in the whole fleet or in a part of it, agents and namespaces. An operation
// is for the former alone unless its registration says within; then its handler
// asks, before it does anything, whether the caller has the role where it would
// act (reach), and leaves out, or doesn't find, what the caller may not know of
// (visible, seen).
package api
