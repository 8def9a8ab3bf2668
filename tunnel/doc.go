// Package tunnel carries streams between a hub and an agent over one
// connection that only the agent opened: a carrier.
//
// A carrier is a WebSocket (through HTTP proxies and layer 7 load balancers)
// or raw TLS with the application protocol [ALPN]. On either runs a [Session]:
// a multiplexer, with a window of its own for each stream, so that a stalled reader
// holds up nobody else. Both ends open and accept streams; a Session is a
// net.Listener for the one direction and Open a dialer for the other, and
// what the streams say is not this package's business. [Serve] and
// [Transport] put plain HTTP/1.1 on them, which is all that Reeve uses.
//
// States of a session: open, then closed, for good; [Session.Done] tells,
// [Session.Err] says why. A carrier is never resumed: [Maintain] dials a new
// one, and whoever has a request in a lost one sees a broken connection.
//
// See DESIGN.md for the choice of parts and for the hazards that it brings.
package tunnel
