// Package spool keeps what an agent has to deliver on its own disk until the
// hub has it: a bounded, ordered queue of documents in one folder.
//
// # States
//
// A document is being written (a file tmp-…), waiting (SEQUENCE.item), or
// rejected (rejected/SEQUENCE.item with the reason in SEQUENCE.reason). It is
// waiting from the moment that its file has been synced, renamed and the
// folder synced; only then does Put return nil. It leaves the folder after
// the sender has said that the other side has it.
//
// # Guarantees
//
//   - What Put acknowledged survives a crash of the process and of the machine.
//   - Documents leave in the order in which Put acknowledged them. A document
//     that can't be delivered now holds back the ones behind it; one that never
//     can be (Permanent) goes to rejected/ and doesn't.
//   - Delivery is at least once: a crash between the sender's success and the
//     removal repeats it. The id lets the receiver drop the repeat.
//   - The folder never outgrows its limits: Put answers ErrFull instead, and
//     the caller passes that on. Nothing that waits is dropped to make room.
//     What was rejected is kept under the same limits, the newest first.
//
// # Ways
//
// A spool may have several ways out (Config.Ways), each delivering all
// documents at its own pace; a document is removed once every way has delivered
// it. A file for each way holds the number of the last document that it
// delivered. A way that is new begins with what waits; for one that is taken out
// nothing is kept any more.
//
// # Recovery
//
// Open removes what was being written when the process died, and reads the
// first line of every waiting file. One that can't be read (a damaged disk)
// goes to rejected/ so that it doesn't hold back the others.
//
// One process at a time owns a folder; a lock on it says so.
package spool
