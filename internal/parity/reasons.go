package main

import (
	"regexp"

	"reeve.dev/reeve/internal/golden"
)

// reasons explain the differences that remain. A run, a control and both
// texts must fit; what is left empty fits everything.
var reasons = []struct {
	run, control string // regular expressions
	want, got    string // regular expressions
	why          string
}{
	{
		control: `^SV-(260492|260601|257887)$`, want: `audit_(tool|conf)_mode`,
		why: "in a describe block InSpec takes input(…) for the word that makes an example; ours is the input's value, which is what the control means to check",
	},
	{
		control: `^SV-257917$`,
		why:     "InSpec's describe.one breaks off where RSpec raises while it words be_in with a value of an input; the verdict is the same",
	},
	{
		control: `^SV-(257937|257940)$`,
		why:     "without firewall-cmd InSpec takes the shell's complaint for the name of a zone; ours says that zones can't be listed",
	},
}

func reason(run string, d golden.Difference) string {
	fits := func(pattern, s string) bool { return regexp.MustCompile(pattern).MatchString(s) }
	for _, r := range reasons {
		if fits(r.run, run) && fits(r.control, d.Control) && fits(r.want, d.Want) && fits(r.got, d.Got) {
			return r.why
		}
	}
	return ""
}
