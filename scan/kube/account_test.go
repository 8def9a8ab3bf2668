package kube

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
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

// TestAccounts_Make: the account is in the agent's namespace, where the pods'
// users can't take it, and its role beside the pod; both go again.
func TestAccounts_Make(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/token"):
			io.WriteString(w, `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","status":{"token":"secret"}}`)
		case strings.HasSuffix(r.URL.Path, "/rolebindings"):
			var b rbacv1.RoleBinding
			if err := json.NewDecoder(r.Body).Decode(&b); err != nil || len(b.Subjects) != 1 || b.Subjects[0].Namespace != "reeve" {
				t.Errorf("binding %+v, %v", b, err)
			}
			fallthrough
		default:
			io.WriteString(w, `{"apiVersion":"v1","kind":"Status","status":"Success"}`)
		}
	}))
	defer server.Close()
	a, err := NewAccounts(&rest.Config{Host: server.URL, BearerToken: "own", ContentConfig: rest.ContentConfig{ContentType: "application/json"}}, "reeve", "mine", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	config, release, err := a.Make(t.Context(), Grant{Scan: "s", Attempt: 1, Namespace: "shop", Pod: "web"})
	if err != nil {
		t.Fatal(err)
	}
	release()
	const core, rbac = "/api/v1/namespaces/reeve/serviceaccounts", "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/"
	want := []string{
		"POST " + core, "POST " + rbac + "roles", "POST " + rbac + "rolebindings", "POST " + core + "/reeve-scan-s-1/token",
		"DELETE " + core + "/reeve-scan-s-1", "DELETE " + rbac + "rolebindings/reeve-scan-s-1", "DELETE " + rbac + "roles/reeve-scan-s-1",
	}
	if diff := cmp.Diff(want, asked); diff != "" || config.BearerToken != "secret" {
		t.Errorf("token %q, asked %s", config.BearerToken, diff)
	}
}
