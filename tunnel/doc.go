// Package tunnel carries streams between a hub and an agent over connections
// that only the agent opened: carriers.
//
// A carrier is a WebSocket (through HTTP proxies and layer 7 load balancers)
// or raw TLS with the application protocol [ALPN]. On either runs a [Session],
// a multiplexer with a window for each stream, so that a stalled reader holds
// up nobody else. Both ends open and accept streams; a Session is a
// net.Listener for the one direction and Open a dialer for the other, and
// what the streams say is not this package's business. [Serve] and [Pool] put
// plain HTTP/1.1 on them, which is all that Reeve uses.
//
// States of a session: open, perhaps draining ([Session.Drain]: no new
// streams, and the end after the last), then closed, for good; [Session.Done]
// tells, [Session.Err] says why. A carrier is never resumed: a [Link] keeps
// several up and dials new ones, and a [Pool] sends by another what it safely
// can. Whoever has another request in a lost one sees a broken connection.
//
// See DESIGN.md for the protocol's reasons and for what they cost.
package tunnel
