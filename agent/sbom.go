package agent

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/scan/kube"
)

// handIn answers what makes the SBOM of a container that a scan looks at and
// puts it into the spool of the insights, as the message that a labelled
// ConfigMap makes. It is for the hub, which knows by the item's id that the agent
// made it. A pod's labels don't say whose environment its namespace is: those who
// deploy it choose them.
func (a *Agent) handIn(job *scan.Job, t target.Target, c kube.Deployment) func(context.Context) error {
	if a.cfg.SBOM == nil {
		return nil
	}
	return func(ctx context.Context) error {
		name := c.Image
		if name == "" {
			name = job.Target.String()
		}
		service := sbomService(c)
		m := lagoon.ConfigMap{
			Labels:    map[string]string{lagoon.LabelInsightsType: "sbom-gz", lagoon.LabelService: service},
			Namespace: c.Namespace, Service: service, Type: lagoon.TypeSBOM,
		}
		pr, pw := io.Pipe()
		written := make(chan struct{})
		go func() {
			defer close(written)
			pw.CloseWithError(m.Write(pw, service+".cyclonedx.json.gz", func(w io.Writer) error {
				z := gzip.NewWriter(w)
				return errors.Join(a.sbom(ctx, t, name, c.Digest, z), z.Close())
			}))
		}()
		err := a.insights.Put(ctx, fmt.Sprintf(insight.ScannedPrefix+"%s.%d", job.ID, job.Attempt), lagoon.SpoolHub, pr)
		pr.CloseWithError(errors.New("the spool has stopped reading"))
		<-written // the target is closed next
		return err
	}
}

// sbom has the SBOM written. What a container holds may make it panic, but that
// mustn't end the agent, whose next process would make the same scan.
func (a *Agent) sbom(ctx context.Context, t target.Target, name, digest string, w io.Writer) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it failed inside: %v\n%s", p, debug.Stack())
		}
	}()
	return a.cfg.SBOM(ctx, t, name, digest, w)
}

// sbomService names what an SBOM is of in its namespace: Lagoon's service, or
// the workload with the container.
func sbomService(c kube.Deployment) string {
	if s := c.Labels[lagoon.LabelService]; s != "" {
		return s
	}
	owner := c.Workload
	if owner == "" {
		owner = c.Pod
	}
	return owner + "." + c.Container
}
