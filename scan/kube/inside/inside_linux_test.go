package inside

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// seen is a process as a proc file system shows it.
type seen struct {
	pid, start    int
	cgroup, mount string
}

func procWith(t *testing.T, all ...seen) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range all {
		sub := filepath.Join(dir, fmt.Sprint(p.pid))
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"stat":      fmt.Sprintf("%d (a) b) 1) S 0 %s%d 0 0", p.pid, strings.Repeat("0 ", 17), p.start),
			"cgroup":    "0::" + p.cgroup + "\n",
			"mountinfo": "1 0 0:1 " + p.mount + " /dev/termination-log rw - ext4 x rw\n",
		} {
			if err := os.WriteFile(filepath.Join(sub, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestFind(t *testing.T) {
	const self = 50
	own := seen{self, 900, "/", "/x"}
	pause := seen{1, 100, "/../pause", "/x"}
	tests := []struct {
		name  string
		procs []seen
		c     Container
		pid   int
		err   string
	}{
		{"the oldest of the control group", []seen{pause, {30, 300, "/../cri-abc.scope", "/"}, {9, 200, "/../cri-abc.scope", "/"}, {40, 50, "/../other", "/"}, own}, Container{ID: "abc", Name: "web"}, 9, ""},
		{"by the kubelet's folder", []seen{pause, {9, 200, "/", "/var/lib/kubelet/pods/u/containers/web/12"}, {8, 100, "/", "/var/lib/kubelet/pods/u/containers/web2/12"}, own}, Container{ID: "abc", Name: "web"}, 9, ""},
		{"another that looks like it", []seen{pause, {8, 100, "/../cri-def.scope", "/x/pods/u/containers/web/12"}, {9, 200, "/../cri-abc.scope", "/"}, own}, Container{ID: "abc", Name: "web"}, 9, ""},
		{"process 1, where nothing tells", []seen{{1, 100, "/", "/x"}, own}, Container{ID: "abc", Name: "web", First: true}, 1, ""},
		{"not the pause process", []seen{pause, own}, Container{ID: "abc", Name: "web"}, 0, "none of the 2 processes"},
		{"alone", []seen{{1, 100, "/", "/x"}}, Container{ID: "abc", Name: "web", First: true}, 0, "none of the"},
		{"nothing at all", nil, Container{ID: "abc", Name: "web"}, 0, "shareProcessNamespace"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			me := self
			if tt.name == "alone" {
				me, tt.err = 1, "targetContainerName"
			}
			pid, err := tt.c.find(procWith(t, tt.procs...), me)
			if pid != tt.pid || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %d, %v; want %d, %q", pid, err, tt.pid, tt.err)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status")
	text := "Name:\tx\nUid:\t1\t1000\t1\t1\nGid:\t2\t2000\t2\t2\nGroups:\t5 6 \nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t1\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := readStatus(path)
	if err != nil {
		t.Fatal(err)
	}
	allow := cmp.AllowUnexported(status{})
	if diff := cmp.Diff(status{uid: 1000, gid: 2000, groups: []int{5, 6}, bounding: 0xa80425fb}, st, allow); diff != "" {
		t.Error(diff)
	}
	if err := st.become("7:8"); err != nil || st.uid != 7 || st.gid != 8 {
		t.Errorf("%+v, %v", st, err)
	}
	for _, bad := range []string{"root", "-1", "7:", "7:x", ":7", "99999999999"} {
		if err := st.become(bad); err == nil {
			t.Errorf("user %q was taken", bad)
		}
	}
}

func TestReadHello(t *testing.T) {
	for text, want := range map[string]string{
		`{"reeve":1,"shell":true}` + "\nrest":              "",
		`{"reeve":1,"failed":true,"why":"no such"}` + "\n": "no such",
		`{"reeve":2}` + "\n":                               "version 2",
		"hello\n":                                          "no reeve-scanner",
		"":                                                 "EOF",
		strings.Repeat("x", 1<<20):                         "no reeve-scanner",
	} {
		r := bufio.NewReader(strings.NewReader(text))
		hello, err := ReadHello(r)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %+v, %v", text, hello, err)
		}
		if rest, _ := r.ReadString(0); err == nil && rest != "rest" {
			t.Errorf("%.40q: %q is left", text, rest)
		}
	}
}

func TestWait(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	for name, w := range map[string]struct {
		ctx   context.Context
		lives Lives
	}{
		"all its time":   {t.Context(), Lives{All: time.Millisecond, Idle: time.Hour}},
		"nobody came":    {t.Context(), Lives{All: time.Hour, Idle: time.Millisecond}},
		"the pod's end":  {ended, Lives{}},
		"the pod's end,": {ended, Lives{All: time.Hour, Idle: time.Hour}},
	} {
		if err := Wait(w.ctx, w.lives); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
