package crd

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is that of the kinds.
var GroupVersion = schema.GroupVersion{Group: "reeve.dev", Version: "v1alpha1"}

// The types of conditions.
const (
	// Accepted: the hub has what the object asks for.
	Accepted = "Accepted"
	// Finished: the scan is over.
	Finished = "Finished"
	// Passed: the scan's outcome.
	Passed = "Passed"
)

// Scan asks for one scan of a container of its namespace.
type Scan struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ScanSpec   `json:"spec"`
	Status            ScanStatus `json:"status,omitzero"`
}

// ScanSpec can't be changed.
type ScanSpec struct {
	Target ScanTarget `json:"target"`
	Run    `json:",inline"`
}

// ScanTarget is a container of a pod in the object's namespace.
type ScanTarget struct {
	Pod       string `json:"pod"`
	Container string `json:"container"`
}

// Run is what is asked of a scan.
type Run struct {
	Profile        Profile         `json:"profile"`
	Threshold      string          `json:"threshold,omitempty"`
	Inputs         json.RawMessage `json:"inputs,omitempty"`
	Method         string          `json:"method,omitempty"`
	TimeoutSeconds int             `json:"timeoutSeconds,omitempty"`
}

// Profile is one of the hub's by its name, or one in a ConfigMap of the
// object's namespace; see Pack.
type Profile struct {
	Name      string `json:"name,omitempty"`
	ConfigMap string `json:"configMap,omitempty"`
}

// ScanStatus is how the scan stands.
type ScanStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// ScanID is the hub's name of it.
	ScanID string `json:"scanID,omitempty"`
	// Phase is Queued, Running, Completed, Error or Cancelled.
	Phase      string             `json:"phase,omitempty"`
	Outcome    string             `json:"outcome,omitempty"`
	Reason     string             `json:"reason,omitempty"`
	Method     string             `json:"method,omitempty"`
	Controls   *Controls          `json:"controls,omitempty"`
	Findings   []string           `json:"findings,omitempty"`
	StartedAt  *metav1.Time       `json:"startedAt,omitempty"`
	FinishedAt *metav1.Time       `json:"finishedAt,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Controls are counted by their status.
type Controls struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
	Error   int `json:"error"`
}

// ScanList is what the API server answers with.
type ScanList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []Scan `json:"items"`
}

// ScanPolicy has containers of its namespace scanned again and again: by a
// schedule, or whenever a new image runs.
type ScanPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ScanPolicySpec   `json:"spec"`
	Status            ScanPolicyStatus `json:"status,omitzero"`
}

// ScanPolicySpec says which containers are scanned how, and when.
type ScanPolicySpec struct {
	// Selector chooses pods by their labels; none: all.
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
	Run      `json:",inline"`
	// OnDeploy scans each image that a workload runs and didn't run before.
	OnDeploy bool `json:"onDeploy,omitempty"`
	// Schedule is in the format of cron.
	Schedule      string `json:"schedule,omitempty"`
	TimeZone      string `json:"timeZone,omitempty"`
	JitterSeconds int    `json:"jitterSeconds,omitempty"`
	Suspend       bool   `json:"suspend,omitempty"`
	// Actions are what the outcomes lead to besides the hub's own sinks, as the
	// hub's policies have them: KIND or KIND/NAME, such as log, webhook/ci or
	// fix/HOOK, a hook of the agent's.
	Actions []string `json:"actions,omitempty"`
}

// ScanPolicyStatus says whether the hub has taken the policy.
type ScanPolicyStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

// ScanPolicyList is what the API server answers with.
type ScanPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []ScanPolicy `json:"items"`
}

// deepCopy copies what is plain data.
func deepCopy[T any](in *T) *T {
	out := new(T)
	text, err := json.Marshal(in)
	if err == nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		panic(err) // what came from JSON goes into it
	}
	return out
}

// DeepCopyObject implements runtime.Object.
func (s *Scan) DeepCopyObject() runtime.Object { return deepCopy(s) }

// DeepCopyObject implements runtime.Object.
func (l *ScanList) DeepCopyObject() runtime.Object { return deepCopy(l) }

// DeepCopyObject implements runtime.Object.
func (p *ScanPolicy) DeepCopyObject() runtime.Object { return deepCopy(p) }

// DeepCopyObject implements runtime.Object.
func (l *ScanPolicyList) DeepCopyObject() runtime.Object { return deepCopy(l) }
