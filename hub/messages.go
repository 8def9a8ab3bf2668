package hub

import (
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"reeve.dev/reeve/fleet"
	insightlink "reeve.dev/reeve/insight/link"
)

// What messages that are read into memory whole may take: those of one agent,
// which delivers one at a time, and those of all agents; and how long one may
// be on its way.
const (
	agentMessages = insightlink.MaxMessage
	allMessages   = 4 * insightlink.MaxMessage
	messageTime   = 10 * time.Minute
)

// messages bounds the memory that agents' messages take. An agent that sends
// more, or lets the hub wait, holds up itself.
type messages struct {
	next http.Handler
	all  *semaphore.Weighted

	mu     sync.Mutex
	agents map[fleet.AgentName]*semaphore.Weighted // guarded by mu
}

func newMessages(next http.Handler) *messages {
	return &messages{next: next, all: semaphore.NewWeighted(allMessages), agents: map[fleet.AgentName]*semaphore.Weighted{}}
}

func (m *messages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	peer, _ := fleet.PeerFrom(r.Context())
	size := r.ContentLength
	if size < 0 || size > insightlink.MaxMessage {
		size = insightlink.MaxMessage
	}
	// The agent's own share comes first: while it waits for that it takes
	// nothing from others.
	for _, share := range []*semaphore.Weighted{m.of(peer.Agent), m.all} {
		if share.Acquire(r.Context(), size) != nil {
			http.Error(w, "the hub is busy with other messages", http.StatusServiceUnavailable)
			return
		}
		defer share.Release(size)
	}
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(messageTime))
	m.next.ServeHTTP(w, r)
}

func (m *messages) of(agent fleet.AgentName) *semaphore.Weighted {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.agents[agent] == nil {
		m.agents[agent] = semaphore.NewWeighted(agentMessages)
	}
	return m.agents[agent]
}
