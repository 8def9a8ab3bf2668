// Package upgrade sends what asks for an Upgrade no more than once.
//
// A command in a container by WebSocket begins with a GET. net/http takes that
// for a request that may be repeated, and repeats it when a connection that was
// used before ends without an answer; the command may run by then. It never
// does so on a connection that is new.
package upgrade

import (
	"net/http"
	"net/http/httptrace"
)

// Once answers r as it is, or, if it asks for an Upgrade, such that an
// http.Transport sends it by a new connection: one that was used before is
// closed before anything is written to it, whereupon the transport takes the
// next. What net/http doesn't repeat is left alone, since that may cost many
// connections: another method, or a body.
func Once(r *http.Request) *http.Request {
	if r.Header.Get("Upgrade") == "" || r.Body != nil && r.Body != http.NoBody || !repeatable(r) {
		return r
	}
	return r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) {
			if c.Reused {
				c.Conn.Close()
			}
		},
	}))
}

// repeatable is what net/http takes for a request that may be repeated.
func repeatable(r *http.Request) bool {
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return len(r.Header["Idempotency-Key"])+len(r.Header["X-Idempotency-Key"]) > 0
}
