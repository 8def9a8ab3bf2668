package alert

import (
	"context"
	"log/slog"
)

// Log is the Sink that writes outcomes to a log: the failed at the
// level warn, others at info.
type Log struct{ Logger *slog.Logger }

var _ Sink = Log{}

// Deliver implements Sink.
func (l Log) Deliver(ctx context.Context, a Alert) error {
	o, level := a.Outcome, slog.LevelWarn
	if o.Pass || o.Gone {
		level = slog.LevelInfo
	}
	l.Logger.Log(ctx, level, "policy result", "owner", o.Subject.Owner, "repo", o.Subject.Repo, "policy", o.Policy,
		"pass", o.Pass, "gone", o.Gone, "details", o.Details, "run", o.Run, "alert", a.ID, "seq", a.Seq)
	return nil
}

// Close implements what sinks have that hold something; a Log holds nothing.
func (Log) Close() error { return nil }
