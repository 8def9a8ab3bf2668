package inspec

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// erb evaluates the ERB of an inspec.yml, as InSpec does, in a sandbox of its
// own: the environment is empty there. Lines keep their numbers unless what is
// inserted has more.
func erb(text []byte) ([]byte, error) {
	if !bytes.Contains(text, []byte("<%")) {
		return text, nil
	}
	prog, err := ruby.Parse("inspec.yml", []byte(erbProgram(string(text))))
	if err != nil {
		return nil, err
	}
	in := ruby.New(ruby.Limits{Steps: 1_000_000, Memory: 16 << 20})
	v, err := in.Run(context.Background(), prog, nil)
	if err != nil {
		return nil, err
	}
	return []byte(in.ToS(v)), nil
}

// erbProgram is the program whose value is the text.
func erbProgram(text string) string {
	var b strings.Builder
	b.WriteString("_erb = +'';")
	literal := func(s string) {
		if s != "" {
			b.WriteString("_erb << '" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "';")
		}
	}
	for {
		before, rest, found := strings.Cut(text, "<%")
		if !found || strings.HasPrefix(rest, "%") {
			literal(before)
			if !found {
				break
			}
			literal("<%")
			text = rest[1:]
			continue
		}
		literal(before)
		code, after, _ := strings.Cut(rest, "%>")
		switch {
		case strings.HasPrefix(code, "="):
			b.WriteString("_erb << (" + code[1:] + ").to_s;")
		case strings.HasPrefix(code, "#"):
			b.WriteString(strings.Repeat("\n", strings.Count(code, "\n")))
		default:
			b.WriteString(code + ";")
		}
		text = after
	}
	b.WriteString("_erb")
	return b.String()
}

// erbError says where in inspec.yml its ERB is wrong.
func erbError(name string, err error) *ProfileError {
	out := &ProfileError{Profile: name, File: "inspec.yml", Msg: "ERB: " + err.Error()}
	var syntax *ruby.SyntaxError
	var raised *ruby.Exception
	switch {
	case errors.As(err, &syntax):
		out.Line, out.Msg = syntax.Line, "ERB: "+syntax.Msg
	case errors.As(err, &raised):
		out.Line, out.Msg = raised.Line, "ERB: "+raised.Message
	}
	return out
}
