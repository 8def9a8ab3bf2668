package policy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"reeve.dev/reeve/fleet"
)

// ErrRunOver says that a run has ended, so that nothing more is recorded in it:
// somebody else has taken its work over.
var ErrRunOver = errors.New("the run has ended already")

// ErrNotFound says that there is no policy, run or override of that name.
var ErrNotFound = errors.New("not found")

// ErrTooManyLayers says that somebody has put as many overrides as he may.
var ErrTooManyLayers = fmt.Errorf("you have put overrides of %d namespaces, which are as many as one may: delete some (reeve get policy-overrides lists them), or ask who runs the hub for overrides in the policies themselves, whose patterns are for many", MaxLayers)

// ErrChanged says that an override isn't what the caller took it for.
var ErrChanged = errors.New("it was changed meanwhile; read it again")

// RunID names a run: a UUID of version 7, so that ids sort by age.
type RunID string

// NewRunID makes the id of a new run.
func NewRunID() RunID { return RunID(uuid.Must(uuid.NewV7()).String()) }

// Fleet is the source of the runs of the hub's own policies.
const Fleet = "policies"

// Missing is why a subject is gone that a complete run of all has no result of.
const Missing = "it isn't there any more, or is left out"

// Run is one evaluation of a policy, or of a source's policies together. How
// many results it expected and how many it has tells whether it was complete.
type Run struct {
	ID RunID
	// Source is whose run it is, such as Fleet or github/ORG.
	Source string
	// Policy is the one that it evaluates; empty for all of the source.
	Policy string
	// Cause is why it was made, such as clock or insight.
	Cause string
	// Whole says that all subjects are evaluated: those that a complete run has
	// no result of are gone.
	Whole bool
	// Config tells one configuration of the policy from another.
	Config string
	// Holder names the hub that makes it.
	Holder string
	Began  time.Time
	Ended  time.Time

	Expected                int
	Passed, Failed, Unknown int
	State                   RunState
	// Reason says why it isn't complete.
	Reason string
}

// RunState is where a run stands.
type RunState string

// The states of a run. A truncated one has fewer results than it expected.
const (
	Running   RunState = "running"
	Complete  RunState = "complete"
	Truncated RunState = "truncated"
)

// Recorder keeps what runs come to. Its methods may be called concurrently, by
// several hubs.
type Recorder interface {
	// BeginPolicyRun notes that r is made.
	BeginPolicyRun(ctx context.Context, r Run) error
	// ReopenPolicyRun has a run that was truncated go on. It returns ErrRunOver of
	// one that is complete.
	ReopenPolicyRun(ctx context.Context, id RunID) error
	// ExpectResults says how many results the run must have, in place of what was
	// said before.
	ExpectResults(ctx context.Context, id RunID, n int) error
	// RecordResults records results, each for another subject or policy, together
	// with their alerts, in one transaction. What the run has a result of already
	// changes nothing. It returns ErrRunOver where the run has ended.
	RecordResults(ctx context.Context, id RunID, results []fleet.Result, now time.Time) error
	// EndSubjects has subjects gone that the run has no result of, and nobody else
	// has one since it began: those of the query's policy, agent and namespace of
	// which why answers a reason. It may be asked again about the same one. They are
	// answered.
	EndSubjects(ctx context.Context, id RunID, of Query, why func(SubjectRecord) string, now time.Time) ([]fleet.Outcome, error)
	// EndPolicyRun ends the run: as complete if it has all that it expected and there
	// is no reason, else as truncated. What a complete one of all subjects has no
	// result of is gone. A run that has ended stays as it is.
	EndPolicyRun(ctx context.Context, id RunID, reason string, now time.Time) error
	// AbandonPolicyRuns ends the runs of a source that a holder left behind; those of
	// all holders where it is empty.
	AbandonPolicyRuns(ctx context.Context, source, holder, reason string, now time.Time) error
}

// Verdict is how a subject stands.
type Verdict string

// The verdicts.
const (
	Passed  Verdict = "passed"
	Failed  Verdict = "failed"
	Unknown Verdict = "unknown"
)

// SubjectRecord is how a subject stands by a policy.
type SubjectRecord struct {
	Source  string
	Policy  string
	Subject fleet.Subject
	Verdict Verdict
	Details string
	// Since is when the verdict became this one.
	Since   time.Time
	Checked time.Time
	Run     string

	Agent     fleet.AgentName
	Namespace string
}

// Query narrows a list of runs or subjects. A zero member doesn't.
type Query struct {
	Source, Policy string
	State          RunState
	Verdict        Verdict
	Agent          fleet.AgentName
	Namespace      string
	Subject        fleet.Subject
	// Within, unless it is nil, leaves out what is in none of it.
	Within []fleet.Scope
	// Before is where the last page of runs ended.
	Before RunID
	// Offset is how many subjects the pages before had.
	Offset int
	// Limit is at most 1000; 0 means 100.
	Limit int
}

// Tally counts subjects by verdict.
type Tally struct{ Passed, Failed, Unknown int }
