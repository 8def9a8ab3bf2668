// Package version is the version of the program that it is linked into.
package version

import (
	"fmt"
	"runtime/debug"
	"strings"
)

// release is set by the linker: -X reeve.dev/reeve/internal/version.release=1.2.3.
var release string

// Text is the release's version, or what the build knows of its source.
func Text() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	text := strings.Trim(info.Main.Version, "()")
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && text == "devel" {
			text += " " + s.Value[:min(12, len(s.Value))]
		}
	}
	return text
}

// Apart says why an agent isn't one that a hub serves for sure, which are those
// of its own minor version and of the one before; empty if it is, or if either
// is no release.
func Apart(hub, agent string) string {
	var h, a struct{ major, minor int }
	for text, v := range map[string]*struct{ major, minor int }{hub: &h, agent: &a} {
		if _, err := fmt.Sscanf(strings.TrimPrefix(text, "v"), "%d.%d.", &v.major, &v.minor); err != nil {
			return ""
		}
	}
	switch {
	case hub == agent:
		return ""
	case a.major > h.major, a.major == h.major && a.minor > h.minor:
		return "the agent is newer than the hub: upgrade the hub"
	case a.major < h.major, a.minor < h.minor-1:
		return "the agent is more than one minor version older than the hub: upgrade the agent"
	}
	return ""
}
