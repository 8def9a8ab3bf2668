package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// TestConfine: the scanner is confined as the container is of its own, and as
// nobody else in the pod.
func TestConfine(t *testing.T) {
	labels := &corev1.SELinuxOptions{Level: "s0:c1,c2", Type: "container_t"}
	armor := &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: new("web")}
	local := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: new("web.json")}
	free := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}
	byDefault := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	for name, tc := range map[string]struct {
		has        *corev1.SecurityContext
		scanner    corev1.SecurityContext // only what is compared
		restricted corev1.SecurityContext
	}{
		"nothing":    {nil, corev1.SecurityContext{}, corev1.SecurityContext{SeccompProfile: byDefault}},
		"everything": {&corev1.SecurityContext{SELinuxOptions: labels, AppArmorProfile: armor, SeccompProfile: local, Privileged: new(true)}, corev1.SecurityContext{SELinuxOptions: labels, AppArmorProfile: armor, SeccompProfile: local}, corev1.SecurityContext{SELinuxOptions: labels, AppArmorProfile: armor, SeccompProfile: local}},
		"no seccomp": {&corev1.SecurityContext{SeccompProfile: free}, corev1.SecurityContext{SeccompProfile: free}, corev1.SecurityContext{SeccompProfile: byDefault}},
	} {
		t.Run(name, func(t *testing.T) {
			e := &entering{container: "app", status: &corev1.ContainerStatus{}, pod: &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{
				{Name: "other", SecurityContext: &corev1.SecurityContext{SELinuxOptions: &corev1.SELinuxOptions{Level: "s0:c9"}, SeccompProfile: free}},
				{Name: "app", SecurityContext: tc.has},
			}}}}
			for how, want := range map[*corev1.SecurityContext]corev1.SecurityContext{
				e.scanner("x").SecurityContext: tc.scanner, e.restricted("x").SecurityContext: tc.restricted,
			} {
				got := corev1.SecurityContext{SELinuxOptions: how.SELinuxOptions, AppArmorProfile: how.AppArmorProfile, SeccompProfile: how.SeccompProfile}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
				if how.Privileged != nil {
					t.Error("the scanner is privileged")
				}
			}
		})
	}
}
