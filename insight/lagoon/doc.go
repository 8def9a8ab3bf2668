// Package lagoon has the names and shapes that Lagoon's insights-remote and
// insights-handler share: labels, tokens, and the messages of the queue
// lagoon-insights:items. They are also what an agent keeps in its spool and
// sends to the hub, so that a hub, and a Lagoon, read the same bytes.
//
// Written fields and their order are those of insights-remote v0.0.19; what
// is read is as lenient as insights-handler.
package lagoon
