package remedy

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"reeve.dev/reeve/fleet"
)

// Hook is what the owner of a cluster lets be done.
type Hook struct {
	// Name is what the hub calls it.
	Name string `yaml:"name"`
	// Namespaces are where it may act; * stands for any text.
	Namespaces []string `yaml:"namespaces"`
	// Object is what is annotated and labelled: the pod, or the workload that
	// it belongs to, but not the template of its pods. Empty is the workload.
	Object Object `yaml:"object"`
	// Annotate are annotations to set on each outcome. In their values {outcome},
	// {scan}, {policy}, {at}, {namespace}, {pod}, {container} and {workload} are
	// replaced.
	Annotate map[string]string `yaml:"annotate"`
	// Label are labels that are set when an outcome failed, and taken off when
	// one passed.
	Label map[string]string `yaml:"label"`
	// Job is the file of a Job's manifest, which is created when an outcome
	// failed. In its texts the same is replaced as in annotations.
	Job string `yaml:"job"`

	job map[string]any // what is in the file
}

// Object is a pod or a workload.
type Object string

// The objects.
const (
	Pod      Object = "pod"
	Workload Object = "workload"
)

// HookName is what a hook can be called.
var HookName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$`)

// Validate reports everything that is wrong with h.
func (h Hook) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !HookName.MatchString(h.Name) {
		bad("name %q: it must be 1 to 32 lower-case letters, digits or '-', and begin and end with a letter or digit", h.Name)
	}
	if len(h.Namespaces) == 0 {
		bad("namespaces: it is missing; name those where the hook may act, or * for all")
	}
	if err := (fleet.Scope{Namespaces: h.Namespaces}).Validate(); err != nil {
		errs = append(errs, err)
	}
	if h.Object != "" && h.Object != Pod && h.Object != Workload {
		bad("object %q: it must be pod or workload", h.Object)
	}
	if len(h.Annotate) == 0 && len(h.Label) == 0 && h.Job == "" {
		bad("it does nothing: give annotate, label or job")
	}
	for _, m := range []struct {
		key    string
		values map[string]string
	}{{"annotate", h.Annotate}, {"label", h.Label}} {
		for k := range m.values {
			for _, why := range validation.IsQualifiedName(k) {
				bad("%s: %q: %s", m.key, k, why)
			}
		}
	}
	for k, v := range h.Label {
		for _, why := range validation.IsValidLabelValue(v) {
			bad("label: %s: %q: %s", k, v, why)
		}
	}
	return errors.Join(errs...)
}

// load reads the Job's manifest.
func (h *Hook) load() error {
	if h.Job == "" {
		return nil
	}
	text, err := os.ReadFile(h.Job)
	if err != nil {
		return fmt.Errorf("job: %w", err)
	}
	if err := yaml.UnmarshalStrict(text, &h.job); err != nil {
		return fmt.Errorf("job: %s: %w", h.Job, err)
	}
	if h.job["apiVersion"] != "batch/v1" || h.job["kind"] != "Job" {
		return fmt.Errorf("job: %s: it must be a manifest of one Job, apiVersion batch/v1", h.Job)
	}
	return nil
}

// acts reports whether h may act in a namespace.
func (h Hook) acts(namespace string) bool {
	return fleet.Scope{Namespaces: h.Namespaces}.Has("", namespace)
}

// fill replaces what stands for parts of an event in each text of v.
func fill(v any, with *strings.Replacer) any {
	switch v := v.(type) {
	case string:
		return with.Replace(v)
	case []any:
		out := slices.Clone(v)
		for i := range out {
			out[i] = fill(out[i], with)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = fill(v[k], with)
		}
		return out
	}
	return v
}
