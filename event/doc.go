// Package event turns what happens in clusters and registries into scans: a
// container of a new image runs, an image is published, somebody's calendar
// says so. Events are CloudEvents 1.0; they come over HTTP, from agents and
// from the user's broker, and their routes say which scan follows.
//
// An event is a row before it is acknowledged, and (source, id) make it one
// event however often it is sent. From there it has these states:
//
//	| from    | to         | when                                                  |
//	|---------|------------|-------------------------------------------------------|
//	| –       | pending    | its envelope and its data are valid                   |
//	| –       | invalid    | its data isn't; it is kept to be seen                 |
//	| pending | scanned    | a route led to a scan                                 |
//	| pending | duplicate  | each of its routes has had a scan of the same content |
//	| pending | superseded | a later one about the same thing came meanwhile       |
//	| pending | unrouted   | no route matches                                      |
//	| pending | error      | its routes match, but no scan can be asked for        |
//
// All but pending are final, and each tells its reason.
//
// An event waits for Config.Debounce before it is acted on, so that of several
// of one sender about the same container or tag the last one counts; for ten times
// as long at most. Two scans are of the same content if agent, namespace, workload
// and container, image digest, profile digest, threshold and inputs are the same, and
// so are whose route it is (the hub's or an agent's), its actions and whether it
// wants an SBOM: within Config.DedupeFor there is one. What an agent says of a container's image it has
// seen; what anybody else says counts against his own events alone. So nobody keeps
// a container from being scanned by an event about it, or by another that runs the
// same image.
//
// A route's scan is made in any case. What a pod's annotation names is scanned
// besides, unless the route lets it replace its own (Override).
//
// What waits is bounded, in memory and in the database, and so is what of it is one
// sender's: at most [Share] times as many as there is room left for. What is settled
// is bounded by age, number and bytes.
//
// A hub that dies between the scan and the event's end acts on the event
// again, and so may two replicas on two events of the same content: the scan
// is asked for by a key that is made of that content and of the scan before,
// so it is one scan.
package event
