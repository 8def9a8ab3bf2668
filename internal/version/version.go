// Package version is the version of the program that it is linked into.
package version

import (
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
