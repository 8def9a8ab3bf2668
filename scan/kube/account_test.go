package kube

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestGrant holds the rights of a scan against the list of what they may be.
func TestGrant(t *testing.T) {
	rule := func(resource string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{resource}, ResourceNames: []string{"web"}, Verbs: verbs}
	}
	exec := []rbacv1.PolicyRule{rule("pods", "get"), rule("pods/exec", "get", "create"), rule("pods/log", "get")}
	for name, tt := range map[string]struct {
		methods []Method
		want    []rbacv1.PolicyRule
	}{
		"exec":      {[]Method{Exec}, exec},
		"sidecar":   {[]Method{Sidecar}, exec},
		"ephemeral": {[]Method{Exec, Ephemeral}, append(exec, rule("pods/ephemeralcontainers", "get", "update", "patch"))},
	} {
		if diff := cmp.Diff(tt.want, Grant{Pod: "web", Methods: tt.methods}.rules()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestAccounts_left(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	a := &Accounts{instance: "mine", live: map[string]bool{"in-use": true}}
	tests := []struct {
		name, instance, expires string
		left                    bool
	}{
		{"in-use", "mine", "2026-11-22T11:00:00Z", false},
		{"forgotten", "mine", "2026-11-22T13:00:00Z", true},
		{"of-another", "other", "2026-11-22T13:00:00Z", false},
		{"expired", "other", "2026-11-22T11:59:59Z", true},
		{"odd", "other", "soon", false},
	}
	for _, tt := range tests {
		m := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Name: tt.name, Labels: map[string]string{labelInstance: tt.instance}, Annotations: map[string]string{annotationExpires: tt.expires},
		}}
		if got := a.left(m, now); got != tt.left {
			t.Errorf("%s: left over %v", tt.name, got)
		}
	}
}

func TestRefuseMounts(t *testing.T) {
	for what, refused := range map[string]bool{
		"mount | grep -- ' on /tmp '": true, "cat /proc/mounts": true, "/bin/mount": true, "x=1; df -h": true, "findmnt /": true,
		"cat /proc/self/mountinfo": true, "/etc/mtab": true, "find / -fstype nfs": true, "$(mount)": true, "if true; then mount; fi": true,
		"cat /etc/fstab": false, "grep mount /etc/fstab": false, "/etc/systemd/system/tmp.mount": false, "systemctl show tmp.mount": false,
		"modprobe -n -v squashfs": false, "ls /mount": false, "rpm -q mount": false,
	} {
		if err := refuseMounts(what); (err != nil) != refused {
			t.Errorf("%q: %v", what, err)
		}
	}
}
