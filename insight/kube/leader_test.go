package kube

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// memoryLeases is an API server with one lease, which some can't reach.
type memoryLeases struct {
	mu    sync.Mutex
	lease *coordinationv1.Lease // guarded by mu
	cut   bool                  // guarded by mu: the one that holds it gets no answer
}

// of is what a process sees.
type of struct {
	*memoryLeases
	identity string
}

var away = apierrors.NewServiceUnavailable("away")

func (m of) unreachable() bool {
	return m.cut && m.lease != nil && value(m.lease.Spec.HolderIdentity) == m.identity
}

func (m of) Lease(context.Context, string, string) (*coordinationv1.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.unreachable():
		return nil, away
	case m.lease == nil:
		return nil, apierrors.NewNotFound(coordinationv1.Resource("leases"), "x")
	}
	return m.lease.DeepCopy(), nil
}

func (m of) CreateLease(_ context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lease != nil {
		return nil, apierrors.NewAlreadyExists(coordinationv1.Resource("leases"), l.Name)
	}
	return m.put(l, 1), nil
}

func (m of) UpdateLease(_ context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unreachable() {
		return nil, away
	}
	if l.ResourceVersion != m.lease.ResourceVersion {
		return nil, apierrors.NewConflict(coordinationv1.Resource("leases"), l.Name, errors.New("changed"))
	}
	version, _ := strconv.Atoi(l.ResourceVersion)
	return m.put(l, version+1), nil
}

func (m of) put(l *coordinationv1.Lease, version int) *coordinationv1.Lease {
	m.lease = l.DeepCopy()
	m.lease.ResourceVersion = strconv.Itoa(version)
	return m.lease.DeepCopy()
}

func TestLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &memoryLeases{}
		var mu sync.Mutex
		working := map[string]bool{} // guarded by mu
		who := func() (names string) {
			mu.Lock()
			defer mu.Unlock()
			if len(working) > 1 {
				t.Errorf("%d work at a time", len(working))
			}
			for name := range working {
				names += name
			}
			return names
		}
		start := func(name string) (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			l := &Leader{Leases: of{api, name}, Namespace: "ns", Name: "x", Identity: name, Logger: slog.New(slog.DiscardHandler)}
			done := make(chan error)
			go func() {
				done <- l.Run(ctx, func(ctx context.Context) error {
					mu.Lock()
					working[name] = true
					mu.Unlock()
					<-ctx.Done()
					mu.Lock()
					defer mu.Unlock()
					delete(working, name)
					return context.Cause(ctx)
				})
			}()
			return func() {
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Errorf("%s ended with %v", name, err)
				}
			}
		}
		stopA := start("a")
		synctest.Wait()
		stopB := start("b")
		for range 60 { // a renews for a minute
			time.Sleep(time.Second)
			synctest.Wait()
			if got := who(); got != "a" {
				t.Fatalf("%q works, want a", got)
			}
		}
		// One that ends lets the other begin at once.
		stopA()
		time.Sleep(2 * renewEvery)
		synctest.Wait()
		if got := who(); got != "b" {
			t.Fatalf("%q works, want b", got)
		}
		// One that can't reach the API server stops before another begins.
		stopA = start("a")
		api.mu.Lock()
		api.cut = true
		api.mu.Unlock()
		began := time.Now()
		for who() != "a" {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			if time.Since(began) > 2*leaseFor {
				t.Fatal("nobody took over")
			}
		}
		if d := time.Since(began); d < renewWithin-2*renewEvery {
			t.Errorf("taken over after %s", d)
		}
		if got := value(api.lease.Spec.LeaseTransitions); got != 3 {
			t.Errorf("%d transitions, want 3", got)
		}
		stopA()
		stopB()
	})
}
