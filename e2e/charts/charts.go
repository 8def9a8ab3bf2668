// Package charts renders the Helm charts of ../deploy/charts as helm does.
package charts

import (
	"fmt"
	"path/filepath"
	"strings"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"sigs.k8s.io/yaml"
)

// Release is one installation of a chart.
type Release struct {
	Chart     string // a folder
	Name      string
	Namespace string
	Values    string // YAML
	CRDs      bool   // renders the chart's CRDs, too
}

// Render makes the manifests of a release, separated by ---.
func (r Release) Render() (string, error) {
	c, err := loader.Load(r.Chart)
	if err != nil {
		return "", err
	}
	var values map[string]any
	if err := yaml.Unmarshal([]byte(r.Values), &values); err != nil {
		return "", fmt.Errorf("values: %w", err)
	}
	install := action.NewInstall(&action.Configuration{Log: func(string, ...any) {}})
	install.DryRun, install.ClientOnly, install.Replace, install.IncludeCRDs = true, true, true, r.CRDs
	install.ReleaseName, install.Namespace = r.Name, r.Namespace
	install.KubeVersion = &chartutil.KubeVersion{Version: "v1.25.0", Major: "1", Minor: "25"} // the oldest that the charts allow
	rel, err := install.Run(c, values)
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(rel.Manifest, "---\n"), nil
}

// Plain is a manifest for those who have no helm, which is checked in.
type Plain struct {
	File    string // below deploy
	Release Release
}

// Manifests are the plain ones; root is the repository's folder.
func Manifests(root string) []Plain {
	dir := filepath.Join(root, "deploy", "charts")
	return []Plain{
		{"reeve-hub.yaml", Release{Chart: filepath.Join(dir, "reeve-hub"), Name: "reeve-hub", Namespace: "reeve"}},
		{"reeve-agent.yaml", Release{Chart: filepath.Join(dir, "reeve-agent"), Name: "reeve-agent", Namespace: "reeve", CRDs: true, Values: `
hub: {url: "https://reeve-hub.reeve.svc:8443", joinTokenSecret: {name: reeve-agent-join}}
kubectl: {clusterRoles: [view]}
`}},
	}
}

const head = `# Made from deploy/charts/%s by make manifests: change it there.
apiVersion: v1
kind: Namespace
metadata:
  name: reeve
  labels: {pod-security.kubernetes.io/enforce: restricted}
---
`

// Text is what is in the file.
func (p Plain) Text() (string, error) {
	text, err := p.Release.Render()
	if err != nil {
		return "", err
	}
	// Nobody but helm manages releases.
	text = strings.ReplaceAll(text, "    app.kubernetes.io/managed-by: Helm\n", "")
	return fmt.Sprintf(head, filepath.Base(p.Release.Chart)) + text, nil
}
