package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	for _, c := range []struct{ args, out, err string }{
		{"-help", "-config file", ""},
		{"-nope", "", "-nope; see: reeve-agent -help"},
		{"agent", "", `unexpected argument "agent"`},
		{"-config /nowhere.yaml", "", "/nowhere.yaml"},
		{"", "", "hub.url"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), strings.Fields(c.args), &out, &out)
		if c.err == "" && (err != nil || !strings.Contains(out.String(), c.out)) {
			t.Errorf("%s: %v: %s", c.args, err, &out)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v", c.args, err)
		}
	}
}

// The programs of the agent's and the scanner's image have nothing of the hub.
func TestLean(t *testing.T) {
	forbidden := []string{
		"reeve.dev/reeve/hub", "reeve.dev/reeve/api", "reeve.dev/reeve/store", "reeve.dev/reeve/web", "reeve.dev/reeve/alert",
		"reeve.dev/reeve/threshold", "modernc.org", "github.com/jackc", "github.com/spf13/cobra",
		"github.com/danielgtaylor",
	}
	// The scanner lies in other people's pods.
	scanner := append([]string{"k8s.io", "net/http", "reeve.dev/reeve/inspec/ruby", "reeve.dev/reeve/inspec/resource", "github.com/prometheus"}, forbidden...)
	for program, forbidden := range map[string][]string{".": forbidden, "../reeve-scanner": scanner} {
		cmd := exec.Command("go", "list", "-deps", program)
		cmd.Env = append(cmd.Environ(), "GOOS=linux")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		deps := strings.Fields(string(out))
		if len(deps) < 50 {
			t.Fatalf("%s: only %d dependencies listed", program, len(deps))
		}
		for _, d := range deps {
			for _, f := range forbidden {
				if d == f || strings.HasPrefix(d, f+"/") {
					t.Errorf("%s reaches %s", program, d)
				}
			}
		}
	}
}
