package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLasting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLasting[int]()
		var asked atomic.Int64
		takes := func(d time.Duration) func(context.Context) (int, error) {
			return func(context.Context) (int, error) {
				time.Sleep(d)
				return int(asked.Add(1)), nil
			}
		}
		expect := func(d time.Duration, want int) {
			t.Helper()
			if got, err := l.get(t.Context(), takes(d)); got != want || err != nil {
				t.Errorf("%d, %v; want %d", got, err, want)
			}
		}
		expect(time.Millisecond, 1)
		expect(time.Millisecond, 2) // a cheap one is made anew
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { expect(time.Second, 3) })
		}
		all.Wait()
		time.Sleep(19 * time.Second)
		expect(time.Second, 3)
		time.Sleep(2 * time.Second)
		expect(time.Second, 4)

		time.Sleep(time.Minute)
		failed := errors.New("the database is gone")
		if _, err := l.get(t.Context(), func(context.Context) (int, error) { return 0, failed }); !errors.Is(err, failed) {
			t.Errorf("got %v", err)
		}
		expect(time.Millisecond, 5)
		ended, end := context.WithCancel(t.Context())
		all.Go(func() { expect(time.Second, 6) })
		synctest.Wait()
		end()
		if _, err := l.get(ended, takes(0)); !errors.Is(err, context.Canceled) {
			t.Errorf("who gives up: %v", err)
		}
		all.Wait()
	})
}
