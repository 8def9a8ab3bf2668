package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/alert/verify"
	"reeve.dev/reeve/api"
)

func newAlerts() *cobra.Command {
	cmd := &cobra.Command{Use: "alerts", Short: "List, replay and skip alerts; pause sinks, silence channels; check signatures"}
	runs := list[api.AlertRun]{
		use: "runs", short: "List what made outcomes, newest first, and whether all came that should have", example: "  reeve alerts runs --incomplete true\n  reeve alerts runs --source scan --limit 5", path: "/alert-runs",
		rows: alertRunRows, paged: true, arg: "ID", name: func(r api.AlertRun) string { return string(r.ID) },
		filters: []filter{
			{name: "source", usage: "only those that this `source` made, such as scan or policy:NAME"},
			{name: "incomplete", usage: "`true`: only those of which outcomes are missing", values: []string{"true"}},
		},
	}
	cmd.AddCommand(
		newList(alertList("list")),
		newAct("replay ID", "Deliver an alert again, now", "  reeve alerts list --state dead -o name | xargs -r -n1 reeve alerts replay", alertNames),
		newAct("skip ID", "Give an alert up, so that the ones behind it are delivered", "  reeve alerts skip 01a2008e-2017-7681-a3b9-64c9b5507265", alertNames),
		newList(runs),
		newList(sinkList),
		newAct("pause SINK", "Deliver nothing to a sink until it is resumed; its alerts wait", "  reeve alerts pause ops", sinkNames),
		newAct("resume SINK", "End a sink's pause", "  reeve alerts resume ops", sinkNames),
		newSilence(),
		newList(list[api.Silence]{use: "silences", short: "List what people's channels aren't told of now", example: "  reeve alerts silences", path: "/silences", rows: silenceRows, name: func(s api.Silence) string { return string(s.ID) }}),
		newUnsilence(),
		newAlertKeys(),
		newAlertVerify(),
	)
	return cmd
}

// done is what was done, by the verb that asked for it.
var done = map[string]string{"replay": "replayed", "skip": "skipped", "pause": "paused", "resume": "resumed"}

// newAct is a command that has the hub do what it is called to one thing.
func newAct(use, short, example string, of names) *cobra.Command {
	var hub hubFlags
	verb, _, _ := strings.Cut(use, " ")
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Example: example,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			if _, err := c.do(cmd.Context(), http.MethodPost, of.path+"/"+url.PathEscape(args[0])+"/"+verb, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", done[verb], args[0])
			return err
		},
	}
	hub.flags(cmd)
	arguments(cmd, &hub, false, of)
	return cmd
}

func alertRunRows(w io.Writer, list []api.AlertRun) error {
	row(w, "ID", "SOURCE", "EXPECTED", "EMITTED", "COMPLETE", "BEGAN", "ENDED", "NOTE")
	for _, r := range list {
		row(w, r.ID, r.Source, r.Expected, r.Emitted, r.Complete, ago(r.Began), ago(r.Ended), orDash(r.Note))
	}
	return nil
}

func silenceRows(w io.Writer, list []api.Silence) error {
	row(w, "ID", "SINK", "OWNER", "REPO", "POLICY", "UNTIL", "BY", "COMMENT")
	for _, s := range list {
		row(w, s.ID, orAll(s.Sink), orAll(s.Owner), orAll(s.Repo), orAll(s.Policy), when(s.Until), s.CreatedBy, s.Comment)
	}
	return nil
}

func orAll(pattern string) string {
	if pattern == "" {
		return "*"
	}
	return pattern
}

func newSilence() *cobra.Command {
	var hub hubFlags
	var out output
	var b api.SilenceRequest
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "silence",
		Short: "Hold back what people's channels would be told, for a time",
		Long: `Holds back what people's channels, such as Slack's, would be told about what the
patterns choose, in which * stands for any text. What is held back is told
afterwards, if it is still news. Programs are told all the same.`,
		Example: `  reeve alerts silence --owner 'edge/shop' --for 4h --comment 'moving the shop'`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			b.Until = time.Now().Add(lasts).UTC().Truncate(time.Second)
			data, err := c.do(cmd.Context(), http.MethodPost, "/silences", b)
			if err != nil {
				return err
			}
			var made api.Silence
			if err := json.Unmarshal(data, &made); err != nil {
				return fmt.Errorf("the hub's answer: %w", err)
			}
			id := func(s api.Silence) string { return string(s.ID) }
			if err := printOne(cmd.OutOrStdout(), &out, data, table[api.Silence]{rows: told(id).rows, name: id}); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "silent until %s; to end it: reeve alerts unsilence %s\n", when(made.Until), made.ID)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&b.Sink, "sink", "", "`pattern` of sinks")
	flags.StringVar(&b.Owner, "owner", "", "`pattern` of owners, such as AGENT/NAMESPACE")
	flags.StringVar(&b.Repo, "repo", "", "`pattern` of repositories, or POD/CONTAINER")
	flags.StringVar(&b.Policy, "policy", "", "`pattern` of policies")
	flags.Var(lasting{&lasts, time.Second}, "for", "how `long`, such as 4h")
	flags.StringVar(&b.Comment, "comment", "", "why, for those who wonder")
	for _, name := range []string{"for", "comment"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // it is defined above
		}
	}
	hub.flags(cmd)
	out.flag(cmd)
	sinkNames.flag(cmd, "sink", &hub, cobra.ShellCompDirectiveNoFileComp)
	policyNames.flag(cmd, "policy", &hub, cobra.ShellCompDirectiveNoFileComp)
	return cmd
}

func newUnsilence() *cobra.Command {
	var hub hubFlags
	cmd := &cobra.Command{
		Use:     "unsilence ID",
		Short:   "End a silence",
		Example: "  reeve alerts silences\n  reeve alerts unsilence 01a2008e-2017-7681-a3b9-64c9b5507265",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			if _, err := c.do(cmd.Context(), http.MethodDelete, "/silences/"+url.PathEscape(args[0]), nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "ended silence %s\n", args[0])
			return err
		},
	}
	hub.flags(cmd)
	arguments(cmd, &hub, false, silenceNames)
	return cmd
}

func newAlertKeys() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "Print, rotate and end the keys that alerts are signed by"}
	cmd.AddCommand(
		newAlertKeysPrint(),
		newAlertKeysAct(&cobra.Command{
			Use: "rotate", Short: "Make a new key; the old one signs beside it for a week", Example: "  reeve alerts keys rotate", Args: cobra.NoArgs,
		}),
		newAlertKeysAct(&cobra.Command{
			Use: "end ID", Short: "Sign by a key no more, at once",
			Example: "  reeve alerts keys print -o table\n  reeve alerts keys end 01a2008e-2017-7681-a3b9-64c9b5507265", Args: cobra.ExactArgs(1),
		}),
	)
	return cmd
}

func newAlertKeysPrint() *cobra.Command {
	var hub hubFlags
	out := output{"json"}
	cmd := &cobra.Command{
		Use:     "print",
		Short:   "Print the JSON Web Key Set that a sink checks signatures with",
		Example: "  reeve alerts keys print > keys.json\n  reeve alerts keys print -o table",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			data, err := c.do(cmd.Context(), http.MethodGet, "/alert-keys", nil)
			if err != nil {
				return err
			}
			return printOne(cmd.OutOrStdout(), &out, data, table[keySet]{rows: keySetRows})
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	return cmd
}

// newAlertKeysAct is cmd, which changes the keys and lists them then.
func newAlertKeysAct(cmd *cobra.Command) *cobra.Command {
	var hub hubFlags
	var out output
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := hub.client()
		if err != nil {
			return err
		}
		path := "/alert-keys/"
		for _, id := range args {
			path += url.PathEscape(id) + "/"
		}
		var list struct{ Items []json.RawMessage }
		if err := ask(cmd.Context(), c, http.MethodPost, path+cmd.Name(), nil, &list); err != nil {
			return err
		}
		return printList(cmd.OutOrStdout(), &out, list.Items, table[api.AlertKey]{
			rows: keyRows, name: func(k api.AlertKey) string { return k.ID },
		})
	}
	hub.flags(cmd)
	out.flag(cmd)
	return cmd
}

func keyRows(w io.Writer, list []api.AlertKey) error {
	row(w, "ID", "CREATED", "ENDS")
	for _, k := range list {
		row(w, k.ID, when(k.Created), when(k.Ends))
	}
	return nil
}

// keySet is a JSON Web Key Set, as far as people look at it.
type keySet struct {
	Keys []struct{ KID, Kty, Crv, Alg, Use string }
}

func keySetRows(w io.Writer, list []keySet) error {
	row(w, "ID", "TYPE", "CURVE", "ALGORITHM")
	for _, k := range list[0].Keys {
		row(w, k.KID, k.Kty, orDash(k.Crv), orDash(k.Alg))
	}
	return nil
}

func newAlertVerify() *cobra.Command {
	var hub hubFlags
	var out output
	var v verify.Verifier
	var keys, signature, request, id, timestamp string
	var anyTime bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check whether an alert that a sink got comes from the hub, unchanged",
		Long: `Checks the signature of an alert: that of an AlertSink is the metadata
reeve-signature and the bytes of the request; that of a webhook the header
webhook-signature, with --id and --timestamp, and the body. The keys are a file,
or the hub's. Exit code 1: it isn't from there, or isn't for --audience.`,
		Example: `  reeve alerts verify --keys keys.json --audience sink.example.com:443 --signature signature.json --request request.bin
  reeve alerts verify --keys keys.json --audience ci --signature signature.txt --id 3f2a --timestamp 1795334400 --request body.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := os.ReadFile(signature)
			if err != nil {
				return fmt.Errorf("--signature: %w", err)
			}
			body, err := os.ReadFile(request)
			if err != nil {
				return fmt.Errorf("--request: %w", err)
			}
			if v.Keys, err = alertKeys(cmd, &hub, keys); err != nil {
				return err
			}
			if anyTime {
				v.Tolerance = 1<<63 - 1
			}
			var said verify.Statement
			if signed := strings.TrimSpace(string(text)); id == "" && timestamp == "" {
				said, err = v.Alert(signed, body)
			} else {
				said, err = v.Webhook(http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {signed}}, body)
			}
			if err != nil {
				return &exitError{exitNo, fmt.Errorf("not verified: %w; it was checked with the keys %s", err, strings.Join(slices.Sorted(maps.Keys(v.Keys)), ", "))}
			}
			result := verified{said.ID, said.Timestamp.UTC()}
			return printValue(cmd.OutOrStdout(), &out, result, []verified{result}, told(func(v verified) string {
				return fmt.Sprintf("verified: alert %s, signed at %s", v.ID, v.Signed.Format(time.RFC3339))
			}))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&keys, "keys", "", "`file` with the JSON Web Key Set (`reeve alerts keys print`); left out: the hub is asked")
	flags.StringVar(&signature, "signature", "", "`file` with the signature, as it came")
	flags.StringVar(&request, "request", "", "`file` with the request's bytes, or the webhook's body")
	flags.StringVar(&v.Audience, "audience", "", "whom it must be for: an AlertSink's `endpoint`, or a webhook's name, unless the hub's configuration says otherwise")
	flags.StringVar(&id, "id", "", "a webhook's webhook-`id`")
	flags.StringVar(&timestamp, "timestamp", "", "a webhook's webhook-timestamp, in `seconds`")
	flags.BoolVar(&anyTime, "any-time", false, "don't mind when it was signed")
	for _, name := range []string{"signature", "request"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // it is defined above
		}
	}
	hub.flags(cmd)
	out.flag(cmd)
	return cmd
}

// verified is an alert that comes from the hub, unchanged.
type verified struct {
	ID     string    `json:"id"`
	Signed time.Time `json:"signed"`
}

// alertKeys are those in a file, or else the hub's.
func alertKeys(cmd *cobra.Command, hub *hubFlags, file string) (verify.Keys, error) {
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--keys: %w", err)
		}
		keys, err := verify.ParseKeys(text)
		if err != nil {
			return nil, fmt.Errorf("--keys: %w", err)
		}
		return keys, nil
	}
	c, err := hub.client()
	if err != nil {
		return nil, errors.Join(errors.New("without --keys the hub is asked for them"), err)
	}
	data, err := c.do(cmd.Context(), http.MethodGet, "/alert-keys", nil)
	if err != nil {
		return nil, err
	}
	return verify.ParseKeys(data)
}
