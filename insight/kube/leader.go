package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"reeve.dev/reeve/internal/kubeapi"
)

// The times of a leader election, those of client-go: a leader that hasn't
// renewed for leaseFor is taken to be gone; it stops by itself after
// renewWithin, which is less.
const (
	leaseFor    = 15 * time.Second
	renewWithin = 10 * time.Second
	renewEvery  = 2 * time.Second
)

// Leases are the few calls that an election needs. Errors are those of
// k8s.io/apimachinery/pkg/api/errors.
type Leases interface {
	Lease(ctx context.Context, namespace, name string) (*coordinationv1.Lease, error)
	CreateLease(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error)
	UpdateLease(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error)
}

// Leader lets one of several processes work at a time, by a Lease that is
// written as client-go's leader election writes it: processes of either kind
// exclude each other. (client-go's own imports its typed clients; see
// internal/kubeapi.)
type Leader struct {
	Leases          Leases
	Namespace, Name string
	// Identity tells this process from the others.
	Identity string
	Logger   *slog.Logger

	lease    *coordinationv1.Lease // as it was seen last
	observed time.Time             // when it was seen to change
}

// errLost ends the work of a leader that couldn't renew its lease in time.
var errLost = errors.New("the lease couldn't be renewed in time")

// Run runs work whenever this process is the leader, until ctx is done, whose
// cause it returns, or work ends by itself, whose error it returns. work's
// context ends before another process may become the leader.
func (l *Leader) Run(ctx context.Context, work func(context.Context) error) error {
	for ctx.Err() == nil {
		if err := l.try(ctx); err != nil {
			if !errors.Is(err, errHeld) && ctx.Err() == nil {
				l.Logger.Warn("leader election: will retry", "lease", l.Name, "error", err)
			}
			pause(ctx, renewEvery/2+rand.N(renewEvery))
			continue
		}
		l.Logger.Info("this agent is the leader", "lease", l.Name, "identity", l.Identity)
		err := l.lead(ctx, work)
		if !errors.Is(err, errLost) {
			return err
		}
		l.Logger.Warn("this agent is the leader no more", "lease", l.Name, "error", err)
	}
	return context.Cause(ctx)
}

// lead runs work while the lease is renewed, and gives the lease free if it
// still has it.
func (l *Leader) lead(ctx context.Context, work func(context.Context) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ended := make(chan error, 1)
	go func() { ended <- work(ctx) }()
	renewed := time.Now()
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			l.release(context.WithoutCancel(ctx))
			return err
		case <-tick.C:
			began := time.Now()
			deadline, cancel := context.WithDeadline(ctx, renewed.Add(renewWithin))
			err := l.try(deadline)
			cancel()
			if err == nil {
				renewed = began
			} else if errors.Is(err, errHeld) || time.Since(renewed) >= renewWithin-renewEvery {
				stop(errLost)
				<-ended
				return fmt.Errorf("%w: %w", errLost, err)
			}
		}
	}
}

var errHeld = errors.New("another process is the leader")

// try takes the lease, or renews it.
func (l *Leader) try(ctx context.Context) error {
	lease, err := l.Leases.Lease(ctx, l.Namespace, l.Name)
	if apierrors.IsNotFound(err) {
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: l.Namespace, Name: l.Name}}
		l.hold(lease, 0)
		l.lease, err = l.Leases.CreateLease(ctx, lease)
		return err
	}
	if err != nil {
		return err
	}
	if l.lease == nil || l.lease.ResourceVersion != lease.ResourceVersion {
		l.lease, l.observed = lease, time.Now()
	}
	// Only this process' clock is asked how long the holder has been silent.
	holder := value(lease.Spec.HolderIdentity)
	silent := time.Since(l.observed) >= time.Duration(value(lease.Spec.LeaseDurationSeconds))*time.Second
	if holder != "" && holder != l.Identity && !silent {
		return errHeld
	}
	l.hold(lease, value(lease.Spec.LeaseTransitions))
	if l.lease, err = l.Leases.UpdateLease(ctx, lease); err != nil {
		l.lease = nil
	}
	return err
}

func (l *Leader) hold(lease *coordinationv1.Lease, transitions int32) {
	now := metav1.NowMicro()
	spec := &lease.Spec
	if value(spec.HolderIdentity) != l.Identity {
		spec.AcquireTime, spec.LeaseTransitions = &now, new(transitions+1)
	}
	spec.HolderIdentity, spec.RenewTime, spec.LeaseDurationSeconds = &l.Identity, &now, new(int32(leaseFor/time.Second))
}

// release lets another process begin at once.
func (l *Leader) release(ctx context.Context) {
	if l.lease == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, renewEvery)
	defer cancel()
	lease := l.lease.DeepCopy()
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = new(""), new(int32(1))
	if _, err := l.Leases.UpdateLease(ctx, lease); err != nil {
		l.Logger.Warn("the lease wasn't given free; it ends by itself", "lease", l.Name, "error", err)
	}
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// NewLeases returns the client of the cluster that config names.
func NewLeases(config *rest.Config) (Leases, error) {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(coordinationv1.SchemeGroupVersion, &coordinationv1.Lease{})
	c, err := kubeapi.Of(config, scheme, coordinationv1.SchemeGroupVersion)
	return leases{c}, err
}

type leases struct{ rest rest.Interface }

func (c leases) Lease(ctx context.Context, namespace, name string) (*coordinationv1.Lease, error) {
	return into(c.rest.Get().Namespace(namespace).Resource("leases").Name(name).Do(ctx))
}

func (c leases) CreateLease(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return into(c.rest.Post().Namespace(lease.Namespace).Resource("leases").Body(lease).Do(ctx))
}

func (c leases) UpdateLease(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return into(c.rest.Put().Namespace(lease.Namespace).Resource("leases").Name(lease.Name).Body(lease).Do(ctx))
}

func into(r rest.Result) (*coordinationv1.Lease, error) {
	var lease coordinationv1.Lease
	err := r.Into(&lease)
	return &lease, err
}
