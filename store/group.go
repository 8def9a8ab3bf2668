package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A group is closed once it has so many members or is so old, whoever waits.
const (
	groupMembers = 64
	groupAge     = 5 * time.Millisecond
)

// writer commits transactions that come at the same time together, because
// what a commit costs is mostly the sync of the disk. It is for a database
// with one connection that writes: there they would wait for each other
// anyhow. Each is run by its own goroutine, within a savepoint, so that one
// that fails undoes nothing of the others; whoever finds nobody waiting
// behind it commits for all.
type writer struct {
	db      *sql.DB
	waiting atomic.Int64 // for mu

	mu    sync.Mutex
	group *group // guarded by mu; nil if none is open
}

// group is one transaction of the database, which holds those of its members.
type group struct {
	tx      *sql.Tx
	began   time.Time
	members int
	broken  error // the database has undone the whole

	done chan struct{}
	err  error // of the commit; set before done is closed
}

// do runs f in a transaction, which is committed if f returns nil. A cancelled
// ctx doesn't interrupt f, since SQLite would undo the group for it.
func (w *writer) do(ctx context.Context, f func(*sql.Tx) error) error {
	g, err := w.join(ctx, f)
	if err != nil {
		return err
	}
	<-g.done
	return g.err
}

// join runs f in the open group, or in a new one.
func (w *writer) join(ctx context.Context, f func(*sql.Tx) error) (*group, error) {
	w.waiting.Add(1)
	w.mu.Lock()
	w.waiting.Add(-1)
	defer w.mu.Unlock()
	if w.group == nil {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		tx, err := w.db.BeginTx(context.WithoutCancel(ctx), nil)
		if err != nil {
			return nil, fmt.Errorf("begin: %w", err)
		}
		w.group = &group{tx: tx, began: time.Now(), done: make(chan struct{})}
	}
	g := w.group
	defer func() { // also if f panics
		if g.broken != nil || w.waiting.Load() == 0 || g.members >= groupMembers || time.Since(g.began) >= groupAge {
			w.group = nil
			g.end()
		}
	}()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return g, g.run(f)
}

// run runs f within a savepoint, and undoes it if f fails.
func (g *group) run(f func(*sql.Tx) error) error {
	g.members++
	if _, err := g.tx.Exec("SAVEPOINT member"); err != nil {
		g.broken = err
		return fmt.Errorf("savepoint: %w", err)
	}
	kept := false
	defer func() {
		end := "ROLLBACK TO member; RELEASE member"
		if kept {
			end = "RELEASE member"
		}
		if _, err := g.tx.Exec(end); err != nil {
			g.broken = err
		}
	}()
	err := f(g.tx)
	kept = err == nil
	return err
}

// end commits, and tells the members.
func (g *group) end() {
	if g.broken != nil {
		g.tx.Rollback() // the database has done so already, mostly
		g.err = fmt.Errorf("transaction: %w", g.broken)
	} else if err := g.tx.Commit(); err != nil {
		g.err = fmt.Errorf("commit: %w", err)
	}
	close(g.done)
}
