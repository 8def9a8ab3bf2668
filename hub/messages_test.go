package hub

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"

	"reeve.dev/reeve/fleet"
	insightlink "reeve.dev/reeve/insight/link"
)

// Agents that send the largest messages, several at a time, and let the hub
// wait for them, take no more memory than they may, and hold up nobody else.
func TestMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		reading := map[fleet.AgentName]int{}
		finish := make(chan struct{})
		m := newMessages(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			peer, _ := fleet.PeerFrom(r.Context())
			mu.Lock()
			reading[peer.Agent]++
			mu.Unlock()
			<-finish
		}))
		send := func(agent fleet.AgentName, size int64) {
			r := httptest.NewRequest("POST", insightlink.Path, nil)
			r.ContentLength = size
			go m.ServeHTTP(httptest.NewRecorder(), r.WithContext(fleet.WithPeer(t.Context(), fleet.Peer{Agent: agent})))
			synctest.Wait()
		}
		for range 3 {
			send("evil", insightlink.MaxMessage)
			send("vague", -1)
		}
		send("good", insightlink.MaxMessage)
		send("small", 1000)
		send("small", 1000)
		for agent, want := range map[fleet.AgentName]int{"evil": 1, "vague": 1, "good": 1, "small": 2} {
			if reading[agent] != want {
				t.Errorf("%s has %d messages in memory, want %d", agent, reading[agent], want)
			}
		}
		close(finish)
		synctest.Wait()
		if reading["evil"] != 3 || reading["vague"] != 3 {
			t.Errorf("what had to wait wasn't read in the end: %v", reading)
		}
	})
}
