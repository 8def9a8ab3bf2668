package pki

import (
	"fmt"
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
// ready. It holds an entry for each agent that this CA made a certificate for.
type pace struct {
	mu sync.Mutex
	of map[fleet.AgentName]*rate.Limiter // guarded by mu
}

func (p *pace) check(agent fleet.AgentName) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.of[agent]
	if l == nil {
		l = rate.NewLimiter(rate.Every(issueEvery), issueBurst)
		if p.of == nil {
			p.of = map[fleet.AgentName]*rate.Limiter{}
		}
		p.of[agent] = l
	}
	if !l.Allow() {
		return fmt.Errorf("agent %q: %w: once every %v", agent, ErrTooOften, issueEvery)
	}
	return nil
}
