package spool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/internal/spool"
)

// through delivers everything that waits by a way, and answers the batches.
func through(t *testing.T, s *spool.Spool, way string, most spool.Batch) (batches [][]string) {
	t.Helper()
	for s.Waiting(way).Items > 0 {
		ctx, cancel := context.WithCancel(t.Context())
		s.Deliver(ctx, way, most, func(_ context.Context, items []spool.Item) (int, error) {
			var ids []string
			for _, it := range items {
				ids = append(ids, it.ID)
			}
			batches = append(batches, ids)
			cancel()
			return len(items), nil
		})
	}
	return batches
}

func TestSpool_Deliver(t *testing.T) {
	two := spool.Config{Ways: []string{"hub", "broker"}}
	ten := spool.Batch{Items: 10, Bytes: 1 << 20}
	t.Run("each way has its own pace, also after reopening", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, two)
		put(t, s, "a", "1")
		put(t, s, "b", "2")
		if diff := cmp.Diff([][]string{{"a", "b"}}, through(t, s, "hub", ten)); diff != "" {
			t.Error(diff)
		}
		s.Close()
		s = open(t, dir, two)
		put(t, s, "c", "3")
		if diff := cmp.Diff([][]string{{"c"}}, through(t, s, "hub", ten)); diff != "" {
			t.Error(diff)
		}
		if got := s.Stats().Items; got != 3 {
			t.Errorf("%d documents wait, want the three that one way has yet to deliver", got)
		}
		if diff := cmp.Diff([][]string{{"a"}, {"b"}, {"c"}}, through(t, s, "broker", spool.Batch{})); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(spool.Stats{}, s.Stats()); diff != "" {
			t.Error(diff)
		}
		// The numbers of an empty folder go on where they were.
		s.Close()
		s = open(t, dir, two)
		put(t, s, "d", "4")
		if diff := cmp.Diff([][]string{{"d"}}, through(t, s, "hub", ten)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a way that comes delivers what waits, one that goes holds nothing", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, spool.Config{Ways: []string{"hub"}})
		put(t, s, "a", "1")
		s.Close()
		s = open(t, dir, two)
		put(t, s, "b", "2")
		if diff := cmp.Diff([][]string{{"a", "b"}}, through(t, s, "broker", ten)); diff != "" {
			t.Error(diff)
		}
		s.Close()
		s = open(t, dir, spool.Config{Ways: []string{"broker"}})
		if diff := cmp.Diff(spool.Stats{}, s.Stats()); diff != "" {
			t.Error(diff)
		}
		// Back with both: the file of the way that was away is an older one.
		put(t, s, "c", "3")
		s.Close()
		s = open(t, dir, two)
		if diff := cmp.Diff([][]string{{"c"}}, through(t, s, "hub", ten)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a batch is bounded", func(t *testing.T) {
		s := open(t, t.TempDir(), two)
		for i := range 5 {
			put(t, s, fmt.Sprint(i), "1234")
		}
		if diff := cmp.Diff([][]string{{"0", "1"}, {"2", "3"}, {"4"}}, through(t, s, "hub", spool.Batch{Items: 2, Bytes: 100})); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([][]string{{"0", "1", "2"}, {"3", "4"}}, through(t, s, "broker", spool.Batch{Items: 9, Bytes: 13})); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("what a batch didn't deliver comes again, what never can be is rejected for that way", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, two)
			for i := range 4 {
				put(t, s, fmt.Sprint(i), "")
			}
			ctx, cancel := context.WithCancel(t.Context())
			var got []int
			s.Deliver(ctx, "hub", ten, func(_ context.Context, items []spool.Item) (int, error) {
				got = append(got, len(items))
				switch len(got) {
				case 1:
					return 1, errors.New("away")
				case 2:
					return 1, spool.Permanent(errors.New("never"))
				}
				cancel()
				return len(items), nil
			})
			if diff := cmp.Diff([]int{4, 3, 1}, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(1, s.Stats().Rejected); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([][]string{{"0", "1", "2", "3"}}, through(t, s, "broker", ten)); diff != "" {
				t.Error(diff)
			}
			left, err := filepath.Glob(filepath.Join(dir, "*.item"))
			if err != nil || left != nil {
				t.Errorf("left %v, %v", left, err)
			}
		})
	})
	t.Run("a way's file that a crash emptied", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, two)
		put(t, s, "a", "1")
		through(t, s, "hub", ten)
		s.Close()
		if err := os.Truncate(filepath.Join(dir, "way-hub"), 0); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, two)
		if diff := cmp.Diff([][]string{{"a"}}, through(t, s, "hub", ten)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("no such way", func(t *testing.T) {
		s := open(t, t.TempDir(), two)
		if err := s.Deliver(t.Context(), "sea", ten, nil); err == nil {
			t.Error("delivered by a way that isn't there")
		}
	})
}
