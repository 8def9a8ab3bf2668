// Package api is the hub's REST interface, /api/v1, and its description in
// OpenAPI 3.1, served at /openapi.json and checked in beside this file.
//
// Errors are problems of RFC 9457; errors[].location is the path of the
// member that is wrong, such as body.target.pod. A member that isn't known is
// refused. No answer repeats a value that was sent: it may be a secret.
//
// Birger's control calls are there beside it, under their own names and with
// its shapes (birger.go).
//
// The types of the wire are exported, for programs that call the API.
//
// # Who may call
//
// A caller is known by an API token (Authorization: Bearer reeve_…), by the
// session cookie that a one-time login link gave it, or by a client
// certificate with the purpose control, which makes it an administrator; in
// this order, and only the first that is there counts. Each operation needs a
// role: viewer, scanner, operator or admin.
package api
