package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/scan"
)

func newProfileUpload() *cobra.Command {
	var hub hubFlags
	var out output
	cmd := &cobra.Command{
		Use:   "upload PROFILE",
		Short: "Store a profile at a hub, so that scans can name it",
		Long: `Stores a profile (a folder or an archive) at a hub under the name and version of
its inspec.yml. A version never changes there: another content needs another
version, and the same again changes nothing.`,
		Example: "  reeve profile upload ./my-profile --hub https://hub.example:8443",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			archive, err := archiveOf(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			bar := newProgress(cmd.ErrOrStderr())
			defer bar.clear()
			data, err := c.doBody(cmd.Context(), http.MethodPost, "/profiles", "application/octet-stream", bar.reader(bytes.NewReader(archive), int64(len(archive)), args[0]))
			if err != nil {
				return err
			}
			bar.clear()
			return printOne(cmd.OutOrStdout(), &out, data, table[api.Profile]{
				rows: told(func(p api.Profile) string {
					return fmt.Sprintf("%s@%s: %s, %s", p.Name, p.Version, count(len(p.Controls), "control"), p.Digest)
				}).rows,
				name: func(p api.Profile) string { return p.Name + "@" + p.Version },
			})
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	return cmd
}

// archiveOf is the archive of a folder, with what it depends on; an archive
// goes as it is.
func archiveOf(ctx context.Context, path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if !info.IsDir() {
		if info.Size() > scan.MaxUpload {
			return nil, fmt.Errorf("profile %s: it has %d bytes; a hub takes at most %d", path, info.Size(), scan.MaxUpload)
		}
		return os.ReadFile(path)
	}
	p, err := openProfile(ctx, path)
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	if err := p.Archive(&archive); err != nil {
		return nil, fmt.Errorf("profile %s: %w", path, err)
	}
	return archive.Bytes(), nil
}

func newThresholdUpload() *cobra.Command {
	var hub hubFlags
	var out output
	var name string
	cmd := &cobra.Command{
		Use:     "upload FILE",
		Short:   "Store a threshold at a hub, so that scans can name it",
		Long:    "Stores a threshold at a hub, in the place of the one of that name if there is one. Scans that were asked for before are judged by the one that was there then.",
		Example: "  reeve threshold upload ./strict-shop.yaml --name strict-shop --hub https://hub.example:8443",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			text, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("threshold: %w", err)
			}
			if name == "" {
				name = strings.TrimSuffix(filepath.Base(args[0]), filepath.Ext(args[0]))
			}
			data, err := c.do(cmd.Context(), http.MethodPut, "/thresholds/"+url.PathEscape(name), api.ThresholdRequest{Text: string(text)})
			if err != nil {
				return err
			}
			return printOne(cmd.OutOrStdout(), &out, data, table[api.Threshold]{
				rows: told(func(t api.Threshold) string { return t.Name + ": " + t.Digest }).rows,
				name: func(t api.Threshold) string { return t.Name },
			})
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	cmd.Flags().StringVar(&name, "name", "", "`name` at the hub; that of the file, without .yaml, if left out")
	return cmd
}
