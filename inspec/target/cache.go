package target

import (
	"context"
	"errors"
	"io/fs"
	"sync"
)

// maxCached bounds one answer that Cache keeps.
const maxCached = 1 << 20

// Cache answers a repeated question from memory, as InSpec does within one
// run: each command and each look at a file happens once. Large outputs aren't
// kept, nor is anything that a limit or a lost target cut short.
func Cache(t Target) Target {
	if c, ok := t.(*cache); ok {
		return c
	}
	return &cache{Target: t, answers: map[question]answer{}}
}

type cache struct {
	Target
	mu      sync.Mutex
	answers map[question]answer // guarded by mu
}

type question struct {
	op, what string
	limit    int64
}

type answer struct {
	value any
	err   error
}

// ask looks q up, or finds out; what two callers ask at the same time is found
// out twice.
func ask[T any](c *cache, q question, size func(T) int, find func() (T, error)) (T, error) {
	c.mu.Lock()
	a, ok := c.answers[q]
	c.mu.Unlock()
	if ok {
		return a.value.(T), a.err
	}
	v, err := find()
	var pathErr *fs.PathError
	if size(v) <= maxCached && (err == nil || errors.Is(err, ErrNoCommands) || errors.As(err, &pathErr)) {
		c.mu.Lock()
		c.answers[q] = answer{v, err}
		c.mu.Unlock()
	}
	return v, err
}

func (c *cache) Run(ctx context.Context, cmd string) (CommandResult, error) {
	return ask(c, question{op: "run", what: cmd}, func(r CommandResult) int { return len(r.Stdout) + len(r.Stderr) },
		func() (CommandResult, error) { return c.Target.Run(ctx, cmd) })
}

func (c *cache) Stat(ctx context.Context, path string, follow bool) (FileInfo, error) {
	q := question{op: "lstat", what: path}
	if follow {
		q.op = "stat"
	}
	return ask(c, q, func(FileInfo) int { return 0 }, func() (FileInfo, error) { return c.Target.Stat(ctx, path, follow) })
}

func (c *cache) ReadFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	return ask(c, question{op: "read", what: path, limit: limit}, func(b []byte) int { return len(b) },
		func() ([]byte, error) { return c.Target.ReadFile(ctx, path, limit) })
}

func (c *cache) ReadDir(ctx context.Context, path string) ([]string, error) {
	return ask(c, question{op: "list", what: path}, func(n []string) int { return 64 * len(n) },
		func() ([]string, error) { return c.Target.ReadDir(ctx, path) })
}

func (c *cache) Readlink(ctx context.Context, path string) (string, error) {
	return ask(c, question{op: "readlink", what: path}, func(string) int { return 0 },
		func() (string, error) { return c.Target.Readlink(ctx, path) })
}
