// Package audit keeps who did what: each request that the hub forwards or
// refuses, and each change of what the hub is set up to do. A record is never
// changed, and that none was changed, removed or put in between can be shown.
//
// # The chain
//
// Each replica of the hub writes a chain of its own, so that none waits for
// another. Its records are numbered from 1, and each has a hash:
//
//	hash(n) = SHA-256("reeve audit 1\n" hash(n-1) "\n" chain "\n" n "\n" body)
//
// The body is the record as JSON, exactly as it is stored; hash(0) is empty.
// Whoever changes a record must change the hashes of all that follow.
//
// Now and then, and when the hub stops, an [Anchor] says which hash a record
// has, signed with the key of the hub's CA, which isn't in the database. So
// whoever has only the database can change nothing before the newest anchor,
// and can't cut the chain's end off further back than it, without being seen.
// The newest is in a file of the hub's, too, since who takes records away can
// take their anchors as well: then a hub that starts says so, and its next record
// shows it. Each anchor is in the hub's log, from where it can be kept elsewhere:
// `reeve audit verify --expect` holds a chain against such a note, and so
// finds also what was done with the CA's key.
//
// What is older than it must be kept is removed from the chain's beginning. A
// signed anchor of the kind trim takes the place of what was before, so that
// the rest still verifies. A chain's newest record always stays.
//
// # Nothing is lost unseen
//
// A [Log] takes records into memory and writes them in batches, within a
// tenth of a second where the database keeps up; no request waits for the
// database. When [Config.Queue] records wait, the log is full. What happens
// then is [Config.Overflow]: [Refuse] forwards nothing until there is room,
// [Spill] writes records to the hub's log instead and puts a record of how
// many these were into the chain. A log that ends can't have more in memory
// than its last batch, which is written, or else put into the hub's log. A
// process that is killed loses what it had in memory; the first record of the
// next one says that the one before had no orderly end.
//
// Refusals cost the caller nothing, so they mustn't cost the hub much: those
// of the same caller for the same reason (401, 429, and 403 of whoever has no
// credential) are two records a minute at most: the first, and how many came
// since. So are all others while the log is full.
//
// # Recordings
//
// A [Spool] keeps what went over a caller's terminal, as asciicast v2. While
// a session lasts it is a file; at its end a document of the store. What a
// hub that broke off left is stored at the next start.
package audit
