package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"reeve.dev/reeve/internal/disk"
	"reeve.dev/reeve/store"
)

const (
	// readyTime is how long the database may take to answer.
	readyTime = 8 * time.Second
	// readyFor is how long an answer is given again: anybody may ask.
	readyFor = time.Second
)

// readiness answers whether this hub can do its work. Whatever is accepted is
// stored first, so that is whether things can be stored.
type readiness struct {
	store interface{ Ready(context.Context) error }
	dir   string
	said  func(why error) // called when the answer changes

	mu     sync.Mutex
	ending bool      // guarded by mu
	asked  time.Time // guarded by mu, as is the rest
	why    error
}

// end has it answer no from now on.
func (r *readiness) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ending = true
}

// check answers nil, or the reason in words for anybody.
func (r *readiness) check(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ending {
		return errors.New("the hub is stopping")
	}
	if time.Since(r.asked) < readyFor {
		return r.why
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTime) // others get the same answer
	defer cancel()
	before := r.why
	stored := r.store.Ready(ctx)
	switch full := disk.Writable(r.dir); {
	case full != nil:
		r.why, stored = fmt.Errorf("dataDir: %w", full), full
	case errors.Is(stored, store.ErrSchema):
		r.why = store.ErrSchema
	case stored != nil:
		// Its words may tell of what only the log may know.
		r.why = errors.New("the database doesn't answer or takes no writes; the hub's log has the reason")
	default:
		r.why = nil
	}
	if (before == nil) != (r.why == nil) || r.asked.IsZero() {
		r.said(stored)
	}
	r.asked = time.Now()
	return r.why
}

func (r *readiness) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if err := r.check(req.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (h *Hub) openReady(dir string) {
	h.ready = &readiness{store: h.store, dir: dir, said: func(why error) {
		if why == nil {
			h.log.Info("ready")
			return
		}
		h.log.Error("not ready", "error", why)
	}}
}
