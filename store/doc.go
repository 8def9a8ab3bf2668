// Package store keeps the hub's truth in SQL: the fleet, tokens, scans and
// their leases, the outbox of alerts, what the agents collected, and the audit
// log. It implements the Store interfaces that scan, alert, insight, pki and
// audit declare,
// once, in the SQL that its dialects share; store/sqlite opens the embedded
// database, store/postgres one that several replicas of the hub share, and
// store/storetest is the suite that every dialect passes.
//
// Guarantees:
//
//   - A method that changes something returns nil only once the change is
//     durable. Everything that one method changes is one transaction.
//   - A large document is a file of store/blob, complete on the disk before
//     the transaction that names it. A crash between the two leaves a file
//     that no row names, which SweepBlobs removes; never a row that names a
//     file which isn't there.
//   - A full disk, a locked database or a lost connection is an error of
//     the call, and the call has changed nothing.
//
// In SQLite transactions that change something run one after the other. In
// PostgreSQL they don't: one that reads a row in order to change it locks it,
// and one whose order with others matters beyond its rows takes a named lock
// ([Tx.Lock]). One that fails only because of another is run again.
//
// The SQL in migrations/ keeps to what the dialects have in common: TEXT,
// BIGINT, BLOB and DOUBLE PRECISION columns, no generated keys. Times are BIGINT
// microseconds since 1970 in UTC, 0 where there is none; booleans are BIGINT
// 0 or 1; structured values are JSON in TEXT. A released migration is never
// edited.
package store
