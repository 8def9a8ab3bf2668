// Package scan takes a scan from the request to its outcome. The hub's half
// is the Queue: requests become rows, agents lease them, results come back
// and are judged. The agent's half is the Worker: it leases, opens the
// target, runs the profile and keeps the result on its disk until the hub
// has it. Between them lies package scan/link.
//
// A scan is queued, running, and then for good completed, error or
// cancelled. DESIGN.md has the transitions, what each failure does, and why.
package scan
