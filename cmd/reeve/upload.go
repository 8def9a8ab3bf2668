package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
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
			var p api.Profile
			if err := put(cmd.Context(), c, http.MethodPost, "/profiles", "application/octet-stream", archive, &p); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s@%s: %s, %s\n", p.Name, p.Version, count(len(p.Controls), "control"), p.Digest)
			return err
		},
	}
	hub.flags(cmd)
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
			body, err := json.Marshal(api.ThresholdRequest{Text: string(text)})
			if err != nil {
				return err
			}
			var t api.Threshold
			if err := put(cmd.Context(), c, http.MethodPut, "/thresholds/"+url.PathEscape(name), "application/json", body, &t); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", t.Name, t.Digest)
			return err
		},
	}
	hub.flags(cmd)
	cmd.Flags().StringVar(&name, "name", "", "`name` at the hub; that of the file, without .yaml, if left out")
	return cmd
}

// put sends a body as it is, and decodes the answer into into.
func put(ctx context.Context, c *client, method, path, contentType string, body []byte, into any) error {
	resp, err := c.sendBody(ctx, method, path, contentType, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("the hub's answer: %w", err)
	}
	return nil
}
