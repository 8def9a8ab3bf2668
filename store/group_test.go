package store

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite"
)

// together runs what they do in one group: the first waits until all others
// wait for it. It returns what each was told, and which rows were kept.
func together(t *testing.T, do map[string]func(*sql.Tx) error) (told map[string]error, kept []string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "test.db")+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE rows (name TEXT)"); err != nil {
		t.Fatal(err)
	}
	w := &writer{db: db}
	var running sync.WaitGroup
	var mu sync.Mutex
	told = map[string]error{}
	begun := make(chan struct{})
	first := func(*sql.Tx) error { // has the lock
		close(begun)
		for w.waiting.Load() < int64(len(do)) {
			time.Sleep(time.Millisecond)
		}
		w.group.began = time.Now().Add(time.Hour) // however slow this machine is
		return nil
	}
	ask := func(name string, f func(*sql.Tx) error) {
		running.Go(func() {
			var err error
			defer func() {
				if p := recover(); p != nil {
					err = errors.New("panicked")
				}
				mu.Lock()
				defer mu.Unlock()
				told[name] = err
			}()
			err = w.do(context.Background(), func(tx *sql.Tx) error {
				if _, err := tx.Exec("INSERT INTO rows (name) VALUES (?)", name); err != nil {
					return err
				}
				return f(tx)
			})
		})
	}
	ask("first", first)
	<-begun
	for name, f := range do {
		ask(name, f)
	}
	running.Wait()
	rows, err := db.Query("SELECT name FROM rows ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, name)
	}
	return told, kept
}

func TestWriter_membersApart(t *testing.T) {
	failed := errors.New("failed")
	told, kept := together(t, map[string]func(*sql.Tx) error{
		"a":      func(*sql.Tx) error { return nil },
		"b":      func(*sql.Tx) error { return nil },
		"fails":  func(*sql.Tx) error { return failed },
		"panics": func(*sql.Tx) error { panic("as a test") },
		"refused": func(tx *sql.Tx) error {
			_, err := tx.Exec("INSERT INTO nowhere VALUES (1)")
			return err
		},
	})
	if diff := cmp.Diff([]string{"a", "b", "first"}, kept); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	for _, name := range []string{"first", "a", "b"} {
		if told[name] != nil {
			t.Errorf("%s: %v", name, told[name])
		}
	}
	if !errors.Is(told["fails"], failed) || told["panics"] == nil || told["refused"] == nil {
		t.Errorf("told: %v", told)
	}
}

// TestWriter_undone has the database undo the group, as it does when the disk
// is full: nobody is told that it was kept who wasn't, and the next can write.
func TestWriter_undone(t *testing.T) {
	undo := func(tx *sql.Tx) error {
		_, err := tx.Exec("ROLLBACK")
		return err
	}
	told, kept := together(t, map[string]func(*sql.Tx) error{
		"a": func(*sql.Tx) error { return nil }, "b": undo, "c": func(*sql.Tx) error { return nil }, "d": undo,
	})
	var want []string
	for _, name := range []string{"a", "b", "c", "d", "first"} {
		if told[name] == nil {
			want = append(want, name)
		}
	}
	if diff := cmp.Diff(want, kept); diff != "" {
		t.Errorf("rows (-told +kept):\n%s", diff)
	}
	if told["first"] == nil || told["b"] == nil || told["d"] == nil {
		t.Errorf("told: %v", told)
	}
}
