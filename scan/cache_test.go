package scan

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
)

func digest(archive string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(archive))) }

// A hub that is away holds up who needs a profile from it, and nobody else.
func TestCache_hubAway(t *testing.T) {
	asked := make(chan struct{}, 2)
	c, err := openCache(t.TempDir(), func(ctx context.Context, d string) (io.ReadCloser, error) {
		if d == digest("here") {
			return io.NopCloser(bytes.NewReader([]byte("here"))), nil
		}
		asked <- struct{}{}
		<-ctx.Done()
		return nil, context.Cause(ctx)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.get(t.Context(), digest("here")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fetching := make(chan error, 1)
	go func() {
		_, err := c.get(ctx, digest("away"))
		fetching <- err
	}()
	<-asked
	if _, err := c.get(t.Context(), digest("here")); err != nil {
		t.Errorf("the one that is here: %v", err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := c.get(gone, digest("away")); !errors.Is(err, context.Canceled) {
		t.Errorf("who has no more time: %v", err)
	}
	cancel()
	if err := <-fetching; !errors.Is(err, context.Canceled) {
		t.Errorf("who fetches: %v", err)
	}
}

func TestCache_fetchesOnce(t *testing.T) {
	var fetched atomic.Int32
	c, err := openCache(t.TempDir(), func(context.Context, string) (io.ReadCloser, error) {
		fetched.Add(1)
		return io.NopCloser(bytes.NewReader([]byte("archive"))), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := c.get(t.Context(), digest("archive")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := fetched.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}
