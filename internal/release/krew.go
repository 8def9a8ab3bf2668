package release

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// plugin are the names by which reeve is kubectl's plugin, and completes its
// command line. Archives don't have them: krew takes none with links.
var plugin = []string{"kubectl-reeve", "kubectl_complete-reeve"}

// krewManifest is the plugin for krew:
// https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/.
type krewManifest struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       krewSpec          `json:"spec"`
}

type krewSpec struct {
	Version          string         `json:"version"`
	Homepage         string         `json:"homepage"`
	ShortDescription string         `json:"shortDescription"`
	Description      string         `json:"description"`
	Platforms        []krewPlatform `json:"platforms"`
}

type krewPlatform struct {
	Selector struct {
		MatchLabels map[string]string `json:"matchLabels"`
	} `json:"selector"`
	URI    string     `json:"uri"`
	SHA256 string     `json:"sha256"`
	Files  []krewFile `json:"files"`
	Bin    string     `json:"bin"`
}

type krewFile struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// krew writes the manifest by which krew installs the archives as kubectl's
// plugin.
func (r Release) krew() error {
	m := krewManifest{
		APIVersion: "krew.googlecontainertools.github.com/v1alpha2", Kind: "Plugin", Metadata: map[string]string{"name": "reeve"},
		Spec: krewSpec{
			Version: "v" + r.Version, Homepage: "https://reeve.dev", ShortDescription: "Scan running containers against InSpec profiles",
			Description: "kubectl reeve scan pod/NAME --profile PROFILE checks a running container against an\nInSpec profile, with your own kubeconfig and nothing installed in the cluster.\nWith a hub, kubectl reeve get and its other commands ask that.\n",
		},
	}
	for _, p := range r.Platforms {
		archive := r.platformName(p) + ".tar.gz"
		body, err := os.ReadFile(filepath.Join(r.Dir, archive))
		if err != nil {
			return err
		}
		goos, arch, _ := strings.Cut(p, "/")
		k := krewPlatform{
			URI: r.URL + archive, SHA256: fmt.Sprintf("%x", sha256.Sum256(body)), Bin: plugin[0],
			Files: []krewFile{{From: r.top() + "reeve", To: plugin[0]}, {From: r.top() + "LICENSE", To: "."}},
		}
		k.Selector.MatchLabels = map[string]string{"os": goos, "arch": arch}
		m.Spec.Platforms = append(m.Spec.Platforms, k)
	}
	text, err := yaml.Marshal(m)
	if err != nil {
		return err
	}
	return r.write(fmt.Sprintf("reeve_%s_krew.yaml", r.Version), text)
}
