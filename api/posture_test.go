package api

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/scan"
)

// Who takes an older sum shares one with those who choose the same; who doesn't
// say so never gets one.
func TestPostures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p postures
		counted := 0
		var wrong error
		count := func(ctx context.Context, f scan.PostureFilter) ([]scan.Posture, error) {
			counted++
			time.Sleep(time.Second)
			return []scan.Posture{{Agent: f.Agent}}, errors.Join(wrong, ctx.Err())
		}
		ask := func(agent fleet.AgentName, age time.Duration, within ...fleet.Scope) {
			t.Helper()
			sum, err := p.of(t.Context(), scan.PostureFilter{Agent: agent, Within: within, Until: time.Now(), Days: 14}, age, count)
			if err != nil || len(sum) != 1 || sum[0].Agent != agent {
				t.Errorf("%v, %v", sum, err)
			}
		}
		expect := func(what string, n int) {
			t.Helper()
			if counted != n {
				t.Errorf("%s: counted %d times, want %d", what, counted, n)
			}
		}
		// One that goes away leaves the sum to those that wait.
		ctx, leave := context.WithCancel(t.Context())
		go p.of(ctx, scan.PostureFilter{Agent: "east", Until: time.Now(), Days: 14}, 5*time.Second, count)
		synctest.Wait()
		leave()
		for range 20 {
			go ask("east", 5*time.Second)
		}
		ask("east", 5*time.Second)
		synctest.Wait()
		expect("at once", 1)
		ask("east", 5*time.Second)
		expect("a second later", 1)
		ask("west", 5*time.Second)
		ask("east", 5*time.Second, fleet.Scope{Namespaces: []string{"shop"}})
		expect("of others", 3)
		ask("east", 5*time.Second, []fleet.Scope{}...) // who may see nothing isn't who may see all
		expect("of nothing", 4)
		ask("east", 0)
		expect("as it is now", 5)
		time.Sleep(5 * time.Second)
		ask("east", 5*time.Second)
		expect("later", 6)

		wrong = errors.New("the database is away")
		time.Sleep(5 * time.Second)
		if _, err := p.of(t.Context(), scan.PostureFilter{Agent: "east", Until: time.Now(), Days: 14}, 5*time.Second, count); !errors.Is(err, wrong) {
			t.Error(err)
		}
		wrong = nil
		ask("east", 5*time.Second)
		expect("after an error", 8)
	})
}

func TestMaxAge(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": 0, "no-cache": 0, "max-age=0": 0, "max-age=-5": 0, "max-age=x": 0, "max-age=5": 5 * time.Second, "no-transform, Max-Age=5": 5 * time.Second, "max-age=99999": time.Minute,
	} {
		if got := (MaxAge{header}).duration(); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}
