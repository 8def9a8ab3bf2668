package forward

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimiter(t *testing.T) {
	begin := func(t *testing.T, l *limiter, name string) *account {
		t.Helper()
		a, over := l.begin(name, time.Now())
		if over != nil {
			t.Fatalf("%s: %v", name, over)
		}
		return a
	}
	refused := func(t *testing.T, l *limiter, name, says string, after time.Duration) {
		t.Helper()
		_, over := l.begin(name, time.Now())
		if over == nil || over.after != after || !strings.Contains(over.Error(), says) {
			t.Errorf("%s: %+v; want %q after %v", name, over, says, after)
		}
	}
	t.Run("concurrency", func(t *testing.T) {
		l := newLimiter(Limit{Concurrent: 2}, "caller")
		first := begin(t, l, "a")
		begin(t, l, "a")
		refused(t, l, "a", "2 requests at once of one caller", time.Second)
		begin(t, l, "b")
		l.end(first)
		begin(t, l, "a")
	})
	t.Run("rate", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(Limit{RequestsPerSecond: 0.5, Burst: 2}, "agent")
			begin(t, l, "a")
			begin(t, l, "a")
			refused(t, l, "a", "0.5 requests a second of one agent", 2*time.Second)
			refused(t, l, "a", "", 2*time.Second) // what is refused uses nothing up
			begin(t, l, "b")
			time.Sleep(2 * time.Second)
			begin(t, l, "a")
			refused(t, l, "a", "", 2*time.Second)
		})
	})
	t.Run("bytes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			const perSecond = 1 << 20
			l := newLimiter(Limit{BytesPerSecond: perSecond}, "caller")
			in := admission{callers: l, caller: begin(t, l, "a")}
			start := time.Now()
			for range 11 { // the first second's worth passes at once
				if err := in.wait(t.Context(), perSecond); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(start); took != 10*time.Second {
				t.Errorf("10 MiB more than the burst took %v", took)
			}
			begin(t, l, "a") // it keeps to its limit, so it may begin more
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			for range 3 {
				go func() { done <- in.wait(ctx, perSecond) }()
			}
			synctest.Wait()
			refused(t, l, "a", "1048576 bytes a second of one caller", 3*time.Second)
			begin(t, l, "b")
			cancel()
			for range 3 {
				if <-done == nil {
					t.Error("waited on although the request was over")
				}
			}
		})
	})
	t.Run("none", func(t *testing.T) {
		if l := newLimiter(Limit{}, "caller"); l != nil {
			t.Error("a limiter without limits")
		}
		in, over := (&Hub{}).admit(Caller{})
		if over != nil || in.paces() {
			t.Errorf("%+v, %v", in, over)
		}
		in.done()
	})
	t.Run("accounts of whom nothing is under way are forgotten", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(Limit{RequestsPerSecond: 1, Concurrent: 5}, "caller")
			keep := begin(t, l, "busy")
			for i := range 10 * fewAccounts {
				l.end(begin(t, l, fmt.Sprint(i)))
				time.Sleep(time.Second)
			}
			if n := len(l.accounts); n > fewAccounts+1 || l.accounts["busy"] != keep {
				t.Errorf("%d accounts, and the busy one is %v", n, l.accounts["busy"])
			}
		})
	})
}

func TestLimits_Validate(t *testing.T) {
	for _, tt := range []struct {
		limits Limits
		says   string
	}{
		{Limits{}, ""},
		{Limits{Caller: Limit{Concurrent: 1, RequestsPerSecond: 0.1, Burst: 1, BytesPerSecond: 1}}, ""},
		{Limits{Caller: Limit{Concurrent: -1}}, "limits.caller.concurrent"},
		{Limits{Agent: Limit{RequestsPerSecond: -1}}, "limits.agent.requestsPerSecond"},
		{Limits{Agent: Limit{Burst: 1}}, "limits.agent.burst"},
		{Limits{Agent: Limit{BytesPerSecond: -1}}, "limits.agent.bytesPerSecond"},
	} {
		err := tt.limits.Validate()
		if (err == nil) != (tt.says == "") || err != nil && !strings.HasPrefix(err.Error(), tt.says) {
			t.Errorf("%+v: %v; want %q", tt.limits, err, tt.says)
		}
	}
}
