package agent

import (
	"os/exec"
	"strings"
	"testing"
)

// TestLean keeps the agent small: it lists what must not be reached from it.
func TestLean(t *testing.T) {
	forbidden := map[string]string{
		"reeve.dev/reeve/hub":                       "the agent is no hub",
		"reeve.dev/reeve/api":                       "the agent has no REST API",
		"reeve.dev/reeve/web":                       "the agent has no page",
		"reeve.dev/reeve/store":                     "the agent keeps files, not a database",
		"reeve.dev/reeve/alert":                     "the hub tells",
		"reeve.dev/reeve/insight/osv":               "the hub matches vulnerabilities",
		"reeve.dev/reeve/insight/sbom":              "4 MB of parsers; the command hands them in",
		"database/sql":                              "the agent keeps files, not a database",
		"modernc.org/sqlite":                        "14 MB of binary",
		"github.com/danielgtaylor/huma/v2":          "the agent has no REST API",
		"google.golang.org/grpc":                    "the hub tells",
		"github.com/spf13/cobra":                    "flags are cmd's",
		"reeve.dev/reeve/threshold":                 "the hub judges",
		"k8s.io/client-go/kubernetes/scheme":        "it registers every API group at each start: internal/kubeapi has the few kinds",
		"sigs.k8s.io/controller-runtime/pkg/client": "client-go is enough, at a third of the memory",
	}
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 100 {
		t.Fatalf("only %d dependencies listed", len(deps))
	}
	for _, d := range deps {
		if why, ok := forbidden[d]; ok {
			t.Errorf("the agent reaches %s: %s", d, why)
		}
	}
}
