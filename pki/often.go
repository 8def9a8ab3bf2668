package pki

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"reeve.dev/reeve/fleet"
)

// An agent renews once a day and has a few processes, which may all start
// anew; one that asks for much more is broken or in other hands.
const (
	issueEvery = 10 * time.Second
	issueBurst = 30
)

// pace bounds how often each agent is given a certificate. The zero value is
// ready. It holds an entry for each agent that was given one not long ago.
type pace struct {
	mu     sync.Mutex
	of     map[fleet.AgentName]*rate.Limiter // guarded by mu
	pruned time.Time                         // guarded by mu
}

func (p *pace) check(agent fleet.AgentName) error {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	// One whose limiter is full again is like one that never asked.
	if now.Sub(p.pruned) > issueBurst*issueEvery {
		maps.DeleteFunc(p.of, func(_ fleet.AgentName, l *rate.Limiter) bool { return l.TokensAt(now) >= issueBurst })
		p.pruned = now
	}
	l := p.of[agent]
	if l == nil {
		l = rate.NewLimiter(rate.Every(issueEvery), issueBurst)
		if p.of == nil {
			p.of = map[fleet.AgentName]*rate.Limiter{}
		}
		p.of[agent] = l
	}
	if !l.AllowN(now, 1) {
		return fmt.Errorf("agent %q: %w: once every %v", agent, ErrTooOften, issueEvery)
	}
	return nil
}
