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
}{}

func reason(run string, d golden.Difference) string {
	fits := func(pattern, s string) bool { return regexp.MustCompile(pattern).MatchString(s) }
	for _, r := range reasons {
		if fits(r.run, run) && fits(r.control, d.Control) && fits(r.want, d.Want) && fits(r.got, d.Got) {
			return r.why
		}
	}
	return ""
}
