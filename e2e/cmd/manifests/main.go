// Command manifests writes the plain manifests of ../deploy from the charts.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"reeve.dev/reeve/e2e/charts"
)

func main() {
	for _, p := range charts.Manifests("..") {
		text, err := p.Text()
		if err == nil {
			err = os.WriteFile(filepath.Join("..", "deploy", p.File), []byte(text), 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "manifests:", p.File+":", err)
			os.Exit(2)
		}
	}
}
