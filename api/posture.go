package api

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	"reeve.dev/reeve/scan"
)

// MaxAge is the age of an answer that the caller takes, as RFC 9111 has it; a
// caller that says nothing takes what is so now.
type MaxAge struct {
	CacheControl string `header:"Cache-Control" doc:"max-age=SECONDS: an answer that is so old will do, at most 60"`
}

func (in MaxAge) duration() time.Duration {
	for directive := range strings.SplitSeq(in.CacheControl, ",") {
		if text, ok := strings.CutPrefix(strings.TrimSpace(strings.ToLower(directive)), "max-age="); ok {
			if n, err := strconv.Atoi(text); err == nil && n > 0 {
				return min(time.Duration(n)*time.Second, time.Minute)
			}
		}
	}
	return 0
}

// postures are sums that callers share who choose the same and take an older
// answer: to count 200,000 targets takes 30 ms, and each open page asks every ten
// seconds. The zero value is ready.
type postures struct {
	mu    sync.Mutex
	known map[string]*posture // guarded by mu; at most maxPostures
}

// posture is one sum, which is there once ready is closed.
type posture struct {
	began time.Time
	ready chan struct{}
	sum   []scan.Posture
	err   error
}

const maxPostures = 64

// of is a sum that began less than age ago, or a new one by count.
func (p *postures) of(ctx context.Context, f scan.PostureFilter, age time.Duration, count func(context.Context, scan.PostureFilter) ([]scan.Posture, error)) ([]scan.Posture, error) {
	if age <= 0 {
		return count(ctx, f)
	}
	now, chosen := f.Until, f
	chosen.Until = now.UTC().Truncate(24 * time.Hour)
	key, err := json.Marshal(chosen)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	s := p.known[string(key)]
	if s == nil || now.Sub(s.began) >= age {
		if len(p.known) >= maxPostures || p.known == nil {
			p.known = map[string]*posture{}
		}
		s = &posture{began: now, ready: make(chan struct{})}
		p.known[string(key)] = s
		// Others may wait for it when this caller is gone.
		go func() {
			defer close(s.ready)
			s.sum, s.err = count(context.WithoutCancel(ctx), f)
		}()
	}
	p.mu.Unlock()
	select {
	case <-s.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.err != nil { // what went wrong for one is tried by the next
		p.mu.Lock()
		if p.known[string(key)] == s {
			delete(p.known, string(key))
		}
		p.mu.Unlock()
	}
	return s.sum, s.err
}
