// Package move takes a hub's data from its own database, SQLite, to PostgreSQL.
//
// It does so in an order in which a failure at any step, of a process or of a
// connection, leaves a source that is as it was, and a target of which no hub
// takes a part for the whole:
//
//  1. The target, in which nothing may be, is brought to the newest schema. The
//     source has to have it already.
//  2. The documents are copied that the source's rows name. Each is named by its
//     content, which is checked on the way; what is there from an earlier try
//     isn't copied again. No row names them yet.
//  3. The rows are copied in one transaction, under a lock against whoever
//     writes, and read back within it. It is committed only where each table has
//     as many rows as the source's, of the same sum.
//
// So after a failure before the commit the same call goes on, or begins anew, and
// after one behind it the same call finds that all is there.
//
// The caller sees to it that no hub works on the source.
package move
