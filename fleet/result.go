package fleet

// Result is an outcome with what follows from it: what one check of one policy
// on one subject came to, and whom it is told.
type Result struct {
	// Outcome has the name of the run that it is recorded in, which fills that
	// in.
	Outcome Outcome
	// Unknown, if there is any, says why the check couldn't be made. Such a
	// result is recorded and counted, and told to nobody; Outcome.Pass means
	// nothing then.
	Unknown string
	// Sinks are the names of those that the outcome is told to.
	Sinks []string
	// Agent and Namespace are where the subject is, for callers who are limited
	// to a part of the fleet; empty for one that is in no cluster.
	Agent     AgentName
	Namespace string
}
