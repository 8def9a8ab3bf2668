package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/audit"
	"reeve.dev/reeve/pki"
)

func newAudit() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Show who did what, and that no record of it was changed"}
	cmd.AddCommand(newList(list[api.AuditRecord]{
		use: "list", short: "List audit records, the newest first", path: "/audit", paged: true, rows: auditRows,
		filters: []filter{
			{name: "kind", usage: "only those of this `kind`", values: []string{"request", "change", "hub", "gap"}},
			{name: "actor", usage: "only those of this `name`: a SPIFFE id, or token:NAME"},
			{name: "holder", usage: "only those of credentials that were made out to this `name`"},
			ofAgent,
			{name: "service", usage: "only those of this service, as `TYPE/NAME`"},
			{name: "action", usage: "only this `verb`, such as create, or operation, such as create-token"},
			{name: "status", usage: "only those answered with this `code`"},
			since("only from this `time` on"),
			{name: "until", usage: "only before this `time`, likewise", read: since("").read},
		},
		example: "  reeve audit list --agent prod --action create --since 2026-11-01T00:00:00Z\n  reeve audit list --status 403 -o json",
	}), newAuditVerify())
	return cmd
}

func auditRows(w io.Writer, list []api.AuditRecord) error {
	row(w, "AT", "WHO", "ACTION", "WHERE", "WHAT", "STATUS", "SENT", "TOOK", "WHY")
	for _, r := range list {
		where := r.Agent
		if r.Service != "" {
			where += " " + r.Service
		}
		what := r.Path
		switch {
		case len(r.Command) > 0:
			what = r.Namespace + "/" + r.Name + ": " + strings.Join(r.Command, " ")
		case r.Resource != "":
			what = strings.TrimPrefix(r.Namespace+"/"+r.Resource, "/")
			if r.Name != "" {
				what += " " + r.Name
			}
		}
		who := r.Actor
		if r.Holder != "" {
			who = r.Holder
		}
		if r.User != "" {
			who += " as " + r.User
		}
		status := "-"
		if r.Status != 0 {
			status = strconv.Itoa(r.Status)
		}
		if r.Count > 1 {
			status += fmt.Sprintf(" ×%d", r.Count)
		}
		why := r.Error
		if r.Details["stage"] == "begins" {
			why = "it begins"
		}
		took := time.Duration(r.Seconds * float64(time.Second)).Round(time.Millisecond)
		row(w, r.At.Format(time.RFC3339), orDash(who), r.Action, orDash(where), orDash(what), status, r.Sent, took, orDash(why))
	}
	return nil
}

func newAuditVerify() *cobra.Command {
	var hub hubFlags
	var out output
	var expect []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Recompute the chains of audit records, and name the first that is broken",
		Long: `Reads all audit records, recomputes the hash of each, and checks the signatures
of the hub's CA that vouch for them: here, not at the hub. Exit code 0: every
chain is as it was written; 1: one isn't, and the first wrong record is named.

Whoever has the database can still cut off what came after the newest anchor,
and who has the CA's key can write other anchors. The hub's log has each anchor
("audit chain anchored"): keep that log elsewhere, and give what it says with
--expect.`,
		Example: "  reeve audit verify\n  reeve audit verify --expect QXPVLSOFDCH4TNHNYB4EADUNUE:1042:5b0c…",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			notes, err := readNotes(expect)
			if err != nil {
				return err
			}
			ca, err := hub.authority()
			if err != nil {
				return err
			}
			c, err := hub.client()
			if err != nil {
				return err
			}
			bar := newProgress(cmd.ErrOrStderr())
			done, err := c.verifyAudit(cmd.Context(), ca, notes, bar)
			bar.clear()
			var broken *audit.Broken
			if errors.As(err, &broken) {
				return &exitError{exitNo, err}
			}
			if err != nil {
				return err
			}
			return printValue(cmd.OutOrStdout(), &out, done, done, table[audit.Verified]{rows: verifiedRows})
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	cmd.Flags().StringArrayVar(&expect, "expect", nil, "an anchor that was noted elsewhere, as `CHAIN:NUMBER:HASH`; may be repeated")
	return cmd
}

func verifiedRows(w io.Writer, list []audit.Verified) error {
	row(w, "CHAIN", "RECORDS", "FIRST", "LAST", "ANCHORED", "HASH")
	for _, v := range list {
		row(w, v.Chain, v.Records, v.First, v.Last, v.Anchored, v.Hash)
	}
	return nil
}

func readNotes(list []string) ([]audit.Note, error) {
	var notes []audit.Note
	for _, text := range list {
		n, err := audit.ParseNote(text)
		if err != nil {
			return nil, fmt.Errorf("--expect %w", err)
		}
		notes = append(notes, n)
	}
	return notes, nil
}

// authority is the certificate of the hub's CA.
func (f *hubFlags) authority() (*x509.Certificate, error) {
	if f.ca == "" {
		return nil, errors.New("whose signatures are good only the hub's CA tells: give its certificate by --ca or REEVE_CA (ca.pem of `reeve ca init`)")
	}
	text, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, fmt.Errorf("the hub's CA: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("the hub's CA: %s holds no certificate in PEM", f.ca)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the hub's CA: %s: %w", f.ca, err)
	}
	return cert, nil
}

// verifyAudit verifies all chains, and shows how far it is. An error that isn't
// a *[audit.Broken] says why it couldn't.
func (c *client) verifyAudit(ctx context.Context, ca *x509.Certificate, notes []audit.Note, bar *progress) ([]audit.Verified, error) {
	raw, _, err := c.list(ctx, "/audit/chains", url.Values{}, false, 0)
	if err != nil {
		return nil, err
	}
	chains, err := decodeItems[api.AuditChain](raw)
	if err != nil {
		return nil, err
	}
	check := func(message, signature []byte) error { return pki.VerifyAudit(ca, message, signature) }
	done := []audit.Verified{}
	for i, chain := range chains {
		var anchors []audit.Anchor
		for _, a := range chain.Anchors {
			anchors = append(anchors, audit.Anchor{Chain: chain.Chain, Seq: a.Seq, Hash: a.Hash, Kind: a.Kind, At: a.At, Signature: a.Signature})
		}
		at := func(n int) { bar.line("chain %d of %d: %s verified …", i+1, len(chains), count(n, "record")) }
		v, err := c.verifyChain(ctx, audit.NewVerifier(chain.Chain, anchors, check), chain.Chain, notes, at)
		if err != nil {
			return nil, err
		}
		done = append(done, v)
	}
	for _, n := range notes {
		last := int64(0)
		for _, v := range done {
			if v.Chain == n.Chain {
				last = v.Last
			}
		}
		if last < n.Seq {
			return nil, &audit.Broken{Chain: n.Chain, Seq: last + 1, Why: fmt.Sprintf("it is missing, as all up to %d are, which was noted", n.Seq)}
		}
	}
	return done, nil
}

func (c *client) verifyChain(ctx context.Context, v *audit.Verifier, chain string, notes []audit.Note, at func(records int)) (audit.Verified, error) {
	verified := 0
	for after := int64(0); ; {
		at(verified)
		data, err := c.do(ctx, http.MethodGet, "/audit/chains/"+url.PathEscape(chain)+"/records?after="+strconv.FormatInt(after, 10), nil)
		if err != nil {
			return audit.Verified{}, err
		}
		var page struct{ Items []api.AuditEntry }
		if err := json.Unmarshal(data, &page); err != nil {
			return audit.Verified{}, fmt.Errorf("the hub's answer: %w", err)
		}
		if len(page.Items) == 0 {
			return v.End()
		}
		for _, item := range page.Items {
			e := item.Entry(chain)
			if err := v.Next(e); err != nil {
				return audit.Verified{}, err
			}
			for _, n := range notes {
				if err := n.Holds(e); err != nil {
					return audit.Verified{}, err
				}
			}
			after = e.Seq
		}
		verified += len(page.Items)
	}
}

func newRecordings() *cobra.Command {
	cmd := &cobra.Command{Use: "recordings", Short: "List and fetch the terminals that rules had recorded"}
	var hub hubFlags
	var file string
	get := &cobra.Command{
		Use:     "get ID",
		Short:   "Print a recording, as asciicast v2",
		Example: "  reeve recordings get 01a2008e-2017-7681-a3b9-64c9b5507265 --file session.cast\n  asciinema play session.cast",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			c, err := hub.client()
			if err != nil {
				return err
			}
			resp, err := c.send(cmd.Context(), http.MethodGet, "/recordings/"+url.PathEscape(args[0])+"/cast", nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			to := cmd.OutOrStdout()
			if file != "" {
				f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, f.Close()) }()
				to = f
			}
			if terminal(to) {
				return spellLines(to, resp.Body)
			}
			_, err = io.Copy(to, resp.Body)
			return err
		},
	}
	hub.flags(get)
	arguments(get, &hub, false, recordingNames)
	get.Flags().StringVar(&file, "file", "", "`file` to write instead of standard output")
	cmd.AddCommand(newList(list[api.Recording]{
		use: "list", short: "List the recordings, the newest first", example: "  reeve recordings list --agent prod\n  reeve recordings list --holder alice -o json", path: "/recordings", paged: true, rows: recordingRows, name: func(r api.Recording) string { return string(r.ID) },
		filters: []filter{
			{name: "actor", usage: "only those of this `name`, a SPIFFE id"},
			{name: "holder", usage: "only those of credentials that were made out to this `name`"},
			ofAgent,
		},
	}), get)
	return cmd
}

func recordingRows(w io.Writer, list []api.Recording) error {
	row(w, "ID", "BEGAN", "LASTED", "WHO", "AGENT", "CONTAINER", "COMMAND", "BYTES", "CAUSE")
	for _, r := range list {
		who, where, command := r.Actor, r.Namespace+"/"+r.Pod, "(attach)"
		if r.Holder != "" {
			who = r.Holder
		}
		if r.Container != "" {
			where += "/" + r.Container
		}
		if len(r.Command) > 0 {
			command = strings.Join(r.Command, " ")
		}
		row(w, r.ID, r.Began.Format(time.RFC3339), r.Ended.Sub(r.Began).Round(time.Second), who, r.Agent, where, command, r.Size, orDash(r.Cause))
	}
	return nil
}
