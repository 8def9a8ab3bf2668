package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/inspec/target/image"
	"reeve.dev/reeve/internal/memory"
	"reeve.dev/reeve/internal/version"
)

// sbomDocument is one that was made and can be written in several formats.
type sbomDocument interface {
	Write(w io.Writer, format string) error
	// Complete tells what couldn't be read, and is nil if all could.
	Complete() error
}

// sbomFormats are the values of sbom's -o, the default first.
var sbomFormats = []string{"cyclonedx-json", "spdx-json"}

// agentSBOM makes the SBOM of what an agent scans.
func agentSBOM(ctx context.Context, t target.Target, name, digest string, w io.Writer) error {
	doc, err := makeSBOM(ctx, t, name, digest, version.Text(), time.Now())
	if err != nil {
		return err
	}
	return doc.Write(w, sbomFormats[0])
}

func newSBOM() *cobra.Command {
	s := sbomCommand{}
	cmd := &cobra.Command{
		Use:   "sbom TARGET",
		Short: "Make the bill of materials (SBOM) of a target",
		Long: `Finds what software a target holds and writes it as an SBOM: the packages of
dpkg, apk, rpm and pacman; Go and Rust binaries; Java archives; what npm, pip,
gem, composer and .NET have installed. Of the target only find, stat, grep, tr and dd are
run, where commands can be run at all.

TARGET is one of those of reeve scan: k8s-container://NAMESPACE/POD/CONTAINER,
local:, dir:PATH, chroot:PATH, archive:FILE, image:REFERENCE or shell:COMMAND.

What couldn't be read is told, and the document says that it is incomplete.`,
		Example: `  reeve sbom image:nginx:1.27
  reeve sbom k8s-container://default/web/app -o cyclonedx-json=web.cdx.json -o spdx-json=web.spdx.json
  reeve sbom dir:/ | curl --data-binary @- -H "Authorization: $INSIGHTS_TOKEN" http://agent:8888/sboms?service=web`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.run(cmd.Context(), args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringArrayVarP(&s.outputs, "output", "o", sbomFormats[:1], "`format`: "+strings.Join(sbomFormats, " or ")+", or FORMAT=FILE; may be repeated")
	s.access.flags(cmd)
	complete(cmd, "output", sbomFormats...)
	cmd.ValidArgsFunction = cobra.FixedCompletions(localTargets, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace)
	return cmd
}

type sbomCommand struct {
	outputs []string
	access  clusterAccess
}

func (s *sbomCommand) run(ctx context.Context, uri string, out, errs io.Writer) error {
	defer memory.Bound(scanMemory)()
	for _, o := range s.outputs {
		if format, file, named := strings.Cut(o, "="); !knownSBOMFormat(format) || named && file == "" {
			return fmt.Errorf("--output %q: it must be %s, or one of them with =FILE", o, strings.Join(sbomFormats, " or "))
		}
	}
	if err := s.access.validate(); err != nil {
		return err
	}
	pinned, digest, err := image.Resolve(ctx, uri)
	if err != nil {
		return err
	}
	t, entry, err := s.access.open(ctx, pinned)
	if err != nil {
		return err
	}
	defer t.Close()
	name := strings.TrimPrefix(uri, "image:")
	if c := entry.Container; c.Digest != "" {
		name, digest = c.Image, c.Digest
	}
	doc, err := makeSBOM(ctx, t, name, digest, version.Text(), time.Now())
	if err != nil {
		return fmt.Errorf("SBOM of %s: %w", uri, err)
	}
	for _, o := range s.outputs {
		if err := writeSBOM(doc, o, out); err != nil {
			return err
		}
	}
	if err := doc.Complete(); err != nil {
		tell(errs, "reeve: %v", err)
	}
	return nil
}

func knownSBOMFormat(name string) bool { return name == sbomFormats[0] || name == sbomFormats[1] }

// writeSBOM writes what one -o asks for. A file appears when it is whole.
func writeSBOM(doc sbomDocument, output string, out io.Writer) error {
	format, file, named := strings.Cut(output, "=")
	if !named {
		return doc.Write(out, format)
	}
	f, err := os.Create(file + ".new")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // in vain once it is renamed
	if err := errors.Join(doc.Write(f, format), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
