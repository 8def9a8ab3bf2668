package cluster

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// What a process has started for its cluster ends with it, however that ends.
func TestGuard(t *testing.T) {
	if dir := os.Getenv("REEVE_TEST_GUARDED"); dir != "" {
		c := &Cluster{Dir: dir, logf: t.Logf}
		lock, err := c.network()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.guard(lock); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir+"/log", 0o755); err != nil {
			t.Fatal(err)
		}
		// A shim and its container, whose arguments don't tell whose it is.
		if err := c.start("shim", "sh", "-c", "trap 'kill $!; exit' TERM; sleep 3600 & wait", dir+"/shim"); err != nil {
			t.Fatal(err)
		}
		if os.Getenv("REEVE_TEST_CLOSED") != "" {
			c.Close()
		}
		os.Stdout.WriteString("started\n")
		select {}
	}
	for name, closed := range map[string]string{"killed": "", "closed": "1"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestGuard$")
			cmd.Env = append(os.Environ(), "REEVE_TEST_GUARDED="+dir, "REEVE_TEST_CLOSED="+closed)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, _ := bufio.NewReader(out).ReadString('\n')
			of := mentioning(t, dir)
			var below []string // of the shim
			for pid := range of {
				text, _ := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
				below = append(below, strings.Fields(string(text))...)
			}
			cmd.Process.Kill()
			cmd.Wait()
			if line != "started\n" || (len(of) == 0) != (closed != "") {
				t.Fatalf("%q: %v", line, of)
			}
			for left := mentioning(t, dir); len(left) > 0; left = mentioning(t, dir) {
				if ctx.Err() != nil {
					t.Fatalf("still there: %v", left)
				}
				time.Sleep(10 * time.Millisecond)
			}
			for _, pid := range below {
				if text, _ := os.ReadFile("/proc/" + pid + "/cmdline"); strings.HasPrefix(string(text), "sleep\x003600") {
					t.Errorf("%s is still there", pid)
				}
			}
		})
	}
}

// mentioning are the processes with dir in their arguments.
func mentioning(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, e := range entries {
		if text, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline"); strings.Contains(string(text), dir) {
			found[e.Name()] = strings.ReplaceAll(string(text), "\x00", " ")
		}
	}
	return found
}
