package resource

import (
	"context"
	"errors"
	"strings"
	"time"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// command runs once, when something is first asked of it.
type command struct {
	s       *Set
	text    string // what is run
	shown   string // what bash was given
	timeout time.Duration
	redact  ruby.Value
	result  *target.CommandResult
}

func defineCommand(s *Set) {
	cmd := s.define("command", "Cmd", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		text, ok := argString(c, 0)
		if !ok {
			return nil, s.in.Raise(s.in.Class("RuntimeError"), "InSpec `command` was called with `nil` as the argument. This is not supported. Please provide a valid command instead.")
		}
		return s.newCommand(c, text)
	})
	cmd.Def("to_s", func(c *ruby.Call) (ruby.Value, error) {
		d, ok := c.Self.(*ruby.Object).Data.(*command)
		if !ok {
			return str("Command: `ERROR`"), nil
		}
		title := str("Command: `" + d.text + "`")
		if d.redact != nil {
			return c.In.Call(title, "gsub", []ruby.Value{d.redact, str(`\1REDACTED\2`)}, nil)
		}
		return title, nil
	})
	cmd.Def("resource_id", func(c *ruby.Call) (ruby.Value, error) { return c.In.Call(c.Self, "to_s", nil, nil) })
	def(cmd, "command", func(c *ruby.Call, d *command) (ruby.Value, error) { return str(d.text), nil })
	def(cmd, "result", func(c *ruby.Call, d *command) (ruby.Value, error) { return c.Self, d.run() })
	def(cmd, "stdout", func(c *ruby.Call, d *command) (ruby.Value, error) {
		if err := d.run(); err != nil {
			return nil, err
		}
		return str(string(d.result.Stdout)), nil
	})
	def(cmd, "stderr", func(c *ruby.Call, d *command) (ruby.Value, error) {
		if err := d.run(); err != nil {
			return nil, err
		}
		return str(string(d.result.Stderr)), nil
	})
	def(cmd, "exit_status", func(c *ruby.Call, d *command) (ruby.Value, error) {
		if err := d.run(); err != nil {
			return nil, err
		}
		return int64(d.result.ExitStatus), nil
	})
	def(cmd, "exist?", func(c *ruby.Call, d *command) (ruby.Value, error) { return s.commandExists(d.text) })

	bash := s.define("bash", "Bash", cmd, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		script, _ := argString(c, 0)
		path, flags := "bash", "-c"
		if v, ok := options(c).GetSym("path"); ok {
			path = c.In.ToS(v)
		}
		if v, ok := options(c).GetSym("args"); ok {
			flags = c.In.ToS(v)
		}
		d, err := s.newCommand(c, path+" "+flags+" "+shellEscape(script))
		if err != nil {
			return nil, err
		}
		d.shown = script
		return d, nil
	})
	text(bash, func(d *command) string {
		if d == nil {
			return "Bash command"
		}
		return "Bash command " + d.shown
	}, func(d *command) string { return d.shown })
}

func (s *Set) newCommand(c *ruby.Call, text string) (*command, error) {
	d := &command{s: s, text: text}
	if v, ok := options(c).GetSym("timeout"); ok && v != nil {
		d.timeout = time.Duration(leadingInt(c.In.ToS(v))) * time.Second
	}
	if v, ok := options(c).GetSym("redact_regex"); ok && v != nil {
		if _, ok := v.(*ruby.Regexp); !ok {
			return nil, s.fail("The `redact_regex` option must be a regular expression")
		}
		d.redact = v
	}
	return d, nil
}

func (d *command) run() error {
	if d.result != nil {
		return nil
	}
	ctx := d.s.in.Context()
	if d.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d.timeout, &target.TimeoutError{Command: d.text, After: d.timeout})
		defer cancel()
	}
	out, err := d.s.t.Run(ctx, d.text)
	var late *target.TimeoutError
	if errors.As(err, &late) {
		return d.s.fail("Command `%s` timed out after %d seconds", d.text, int(late.After.Seconds()))
	}
	if err != nil {
		return d.s.problem(err)
	}
	d.result = &out
	return nil
}

// inQuotes escapes what a shell gives a meaning between double quotes.
var inQuotes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", "$", `\$`)

// commandExists says whether name, as a whole, is a command in the target's
// PATH or a builtin of its shell. On files alone the usual directories are
// searched.
func (s *Set) commandExists(name string) (bool, error) {
	out, err := s.t.Run(s.in.Context(), "type "+`"`+inQuotes.Replace(name)+`"`)
	if err == nil {
		return out.ExitStatus == 0, nil
	}
	if !errors.Is(err, target.ErrNoCommands) {
		return false, s.problem(err)
	}
	paths := []string{name}
	if !strings.Contains(name, "/") {
		paths = nil
		for _, dir := range []string{"/usr/local/sbin/", "/usr/local/bin/", "/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/"} {
			paths = append(paths, dir+name)
		}
	}
	for _, p := range paths {
		info, ok, err := (&fileRes{s, p}).stat(true)
		if err != nil {
			return false, err
		}
		if ok && info.Type == target.File && info.Mode&0o111 != 0 {
			return true, nil
		}
	}
	return false, nil
}

// shellEscape writes s as Ruby's Shellwords.escape does, since InSpec shows
// what it ran.
func shellEscape(s string) string {
	if s == "" {
		return "''"
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString("'\n'")
			continue
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune(`_-.,:+/@`, r):
		default:
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
