package github

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheck(t *testing.T) {
	got, err := Check(OrgLayer, "branch_protection.yaml", "approvalCount: two\naproveCount: 2\nenforceDefault: true\n")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, p := range got {
		lines = append(lines, fmt.Sprint(p.Line, " ", p.Key))
	}
	if diff := cmp.Diff([]string{"1 approvalCount", "2 aproveCount"}, lines); diff != "" {
		t.Error(diff, got)
	}
	if _, err := Check(OrgLayer, "allstar.yaml", "- a list"); err == nil {
		t.Error("a list was taken")
	}
}
