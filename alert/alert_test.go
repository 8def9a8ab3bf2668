package alert_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
)

func FuzzClean(f *testing.F) {
	f.Add("acme", "site", "base", "all is well")
	f.Add("a\x00", "\xff", "é", strings.Repeat("\xf0\x9f\x8d\x80", alert.MaxDetails))
	f.Add("\x00", "b", "c", "")
	f.Add(strings.Repeat("\xc3", 2*alert.MaxName), "b", "c", strings.Repeat("x", alert.MaxDetails))
	f.Fuzz(func(t *testing.T, owner, repo, policy, details string) {
		in := fleet.Outcome{Subject: fleet.Subject{Owner: owner, Repo: repo}, Policy: policy, Details: details}
		got, err := alert.Clean(in)
		unnamed := false
		for _, s := range []struct {
			in, out string
			limit   int
		}{
			{owner, got.Subject.Owner, alert.MaxName},
			{repo, got.Subject.Repo, alert.MaxName},
			{policy, got.Policy, alert.MaxName},
			{details, got.Details, alert.MaxDetails},
		} {
			if len(s.out) > s.limit || !utf8.ValidString(s.out) || strings.Contains(s.out, "\x00") {
				t.Errorf("%.40q became %.40q, of %d bytes", s.in, s.out, len(s.out))
			}
			if fine := len(s.in) <= s.limit && utf8.ValidString(s.in) && !strings.Contains(s.in, "\x00"); fine && s.out != s.in {
				t.Errorf("%.40q was changed to %.40q", s.in, s.out)
			}
			unnamed = unnamed || s.limit == alert.MaxName && s.out == ""
		}
		if errors.Is(err, alert.ErrUnnamed) != unnamed {
			t.Errorf("unnamed: %v, %v", unnamed, err)
		}
		again, _ := alert.Clean(got)
		if again != got {
			t.Error("cleaning again changes it")
		}
	})
}

func TestNewID(t *testing.T) {
	id := func(run, owner, repo, policy, sink string) alert.ID {
		return alert.NewID(fleet.Outcome{Run: run, Subject: fleet.Subject{Owner: owner, Repo: repo}, Policy: policy}, sink)
	}
	base := id("r", "o", "p", "q", "s")
	if base != id("r", "o", "p", "q", "s") {
		t.Error("the same outcome has another id")
	}
	for _, other := range []alert.ID{
		id("x", "o", "p", "q", "s"), id("r", "x", "p", "q", "s"), id("r", "o", "x", "q", "s"), id("r", "o", "p", "x", "s"),
		id("r", "o", "p", "q", "x"), id("ro", "", "p", "q", "s"), id("r", "op", "", "q", "s"),
	} {
		if other == base {
			t.Error("another outcome has the same id")
		}
	}
}

func TestValidateSink(t *testing.T) {
	for name, ok := range map[string]bool{"soc": true, "soc-2": true, "": false, "SOC": false, "a b": false, "-a": false, alert.CallbackSink: false} {
		if err := alert.ValidateSink(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
