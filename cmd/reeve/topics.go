package main

import "github.com/spf13/cobra"

// newTopics are pages of help that are no commands.
func newTopics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "exit-codes", Short: "What the exit codes say", Long: `Every command ends with one of

  0    done, and good
  1    the check said no: a threshold isn't met, a profile has errors, a chain of
       records is broken, doctor found what must be mended, compare
       --fail-on-new found new failures
  2    it couldn't be done; the last line on standard error says why, and what to
       do next

reeve scan without a threshold answers as InSpec does:

  0    every control passed
  100  a control failed, or couldn't be judged
  101  controls were skipped, and none failed
  2    the scan couldn't be made

Of several scans the worst counts: 2, then 1, then 100, then 101. A command that
a signal ended (Ctrl-C) ends with 2.`},
		{Use: "output", Short: "The formats that data is printed in, and what they promise", Long: `Commands that print data take -o:

  table  for people: columns, and of those that don't fit on the terminal the
         ones that matter; the rest is left out or cut. Words are coloured. Its
         columns may change
  wide   the same with nothing left out or cut, and with more columns where
         there are more
  json   for programs: what the hub's API answers, as /openapi.json describes
         it; a list is an array, and an empty one is []. Members are added, but
         none is renamed, taken away or given another meaning
  yaml   the same members as YAML
  name   what other commands call the things by, one a line

Left out, it is a table on a terminal; anywhere else the same rows parted by
tabs, with nothing cut or coloured, for cut and awk.

Only results go to standard output. What else there is to say goes to standard
error: progress (on a terminal only), hints, warnings, and errors.

Colours are for terminals. NO_COLOR in the environment turns them off;
--color always or never decides it whatever the output is.`},
		{Use: "environment", Short: "The variables that the commands heed", Long: `Which hub commands talk to, and as whom; flags win over them:

  REEVE_HUB         URL of the hub, https://HOST:8443
  REEVE_CA          file with the certificate of the hub's CA
  REEVE_CERT        file with a control or user certificate,
  REEVE_KEY         and that of its key
  REEVE_TOKEN       an API token
  REEVE_TOKEN_FILE  file with an API token

Hub and agent have each key of their configuration in the environment too:
REEVE_HUB_… and REEVE_AGENT_…; see reeve hub --help and reeve agent --help.

Others:

  HTTPS_PROXY, NO_PROXY   the way to the hub and to registries
  KUBECONFIG              the cluster of reeve scan, as kubectl finds it
  NO_COLOR                no colours; see reeve help output
  XDG_CACHE_HOME          where fetched profiles and short-lived credentials
                          for kubectl are kept
  AWS_ACCOUNT_ID, AWS_REGION, AWS_DEFAULT_REGION
                          whose findings the format asff makes
  SOURCE_DATE_EPOCH       the day of the manual's pages`},
	}
}
