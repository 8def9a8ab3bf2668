package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// kubectl runs a program of the first name in the PATH for "kubectl reeve", and
// one of the second to complete its arguments. Both are this program by other
// names.
const (
	pluginProgram   = "kubectl-reeve"
	completeProgram = "kubectl_complete-reeve"
)

// pluginName is how people call the plugin.
const pluginName = "kubectl reeve"

// called is what the program is to do by the name it was called by: its
// arguments, and how people call it.
func called(program string, args []string) (name string, _ []string) {
	switch strings.TrimSuffix(filepath.Base(program), ".exe") {
	case pluginProgram:
		return pluginName, args
	case completeProgram:
		return pluginName, append([]string{cobra.ShellCompRequestCmd}, args...)
	}
	return "reeve", args
}

// isPlugin reports whether cmd was called as kubectl's plugin.
func isPlugin(cmd *cobra.Command) bool { return cmd.Root().DisplayName() == pluginName }
