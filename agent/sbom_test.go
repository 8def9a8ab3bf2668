package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/internal/spool"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/scan/kube"
)

const webDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// handedIn has an agent hand in what makes writes, and answers the message that
// waits for the hub then; nil if none does.
func handedIn(t *testing.T, c kube.Deployment, makes func(context.Context, target.Target, string, string, io.Writer) error) ([]byte, error) {
	t.Helper()
	s, err := spool.Open(t.TempDir(), spool.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a := &Agent{cfg: Config{SBOM: makes}, insights: s, log: slog.New(slog.DiscardHandler)}
	job := &scan.Job{ID: "0198b6a4-0000-7000-8000-000000000000", Attempt: 2, Target: scan.Target{Namespace: c.Namespace, Pod: c.Pod, Container: c.Container}}
	err = a.handIn(job, nil, c)(t.Context())
	waits := s.List()
	if len(waits) == 0 {
		return nil, err
	}
	if it := waits[0]; it.Kind != lagoon.SpoolHub || it.ID != "sbom/0198b6a4-0000-7000-8000-000000000000.2" {
		t.Errorf("it waits as %s %s", it.Kind, it.ID)
	}
	r, openErr := waits[0].Open()
	if openErr != nil {
		t.Fatal(openErr)
	}
	defer r.Close()
	message, readErr := io.ReadAll(r)
	if readErr != nil {
		t.Fatal(readErr)
	}
	return message, err
}

func TestAgent_handIn(t *testing.T) {
	web := kube.Deployment{
		Namespace: "shop-main", Pod: "web-1", Container: "php", Kind: "Deployment", Workload: "web", Image: "web:1", Digest: webDigest,
		Labels: map[string]string{lagoon.LabelProject: "shop", lagoon.LabelEnvironment: "main"},
	}
	const doc = `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[]}`
	message, err := handedIn(t, web, func(_ context.Context, _ target.Target, name, digest string, w io.Writer) error {
		if name != web.Image || digest != webDigest {
			t.Errorf("the SBOM is of %s %s", name, digest)
		}
		_, err := io.WriteString(w, doc)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := lagoon.Decode(message)
	if err != nil {
		t.Fatal(err)
	}
	if got.Environment != (insight.Environment{Namespace: "shop-main"}) {
		t.Errorf("the environment is %+v; whoever deploys a pod chooses its labels", got.Environment)
	}
	content, ok := got.Content.(insight.Document)
	if !ok || content.Kind != insight.KindSBOM || content.Service != "web.php" || !bytes.HasPrefix(content.Data, []byte{0x1f, 0x8b}) {
		t.Errorf("the content is %+v", got.Content)
	}
}

// An SBOM that can't be made leaves nothing behind.
func TestAgent_handIn_failed(t *testing.T) {
	why := errors.New("the container is gone")
	message, err := handedIn(t, kube.Deployment{Namespace: "n", Pod: "p", Container: "c"}, func(_ context.Context, _ target.Target, _, _ string, w io.Writer) error {
		io.WriteString(w, "half of i")
		return why
	})
	if message != nil || !errors.Is(err, why) {
		t.Errorf("%q waits, and the error is %v", message, err)
	}
}

func TestSBOMService(t *testing.T) {
	got := []string{
		sbomService(kube.Deployment{Workload: "web", Pod: "web-1", Container: "php", Labels: map[string]string{lagoon.LabelService: "nginx"}}),
		sbomService(kube.Deployment{Workload: "web", Pod: "web-1", Container: "php"}),
		sbomService(kube.Deployment{Pod: "once", Container: "c"}),
	}
	if diff := cmp.Diff([]string{"nginx", "web.php", "once.c"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestAgent_handIn_panics: a container that makes the reader panic costs its SBOM,
// and not the agent.
func TestAgent_handIn_panics(t *testing.T) {
	message, err := handedIn(t, kube.Deployment{Namespace: "shop", Pod: "web-1", Container: "php"}, func(context.Context, target.Target, string, string, io.Writer) error {
		panic("a file that nobody thought of")
	})
	if err == nil || !strings.Contains(err.Error(), "nobody thought of") || message != nil {
		t.Errorf("%v, and %d bytes wait for the hub", err, len(message))
	}
}
