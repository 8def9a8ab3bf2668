package amqp_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rabbit "github.com/rabbitmq/amqp091-go"

	"reeve.dev/reeve/insight/amqp"
	"reeve.dev/reeve/insight/amqp/amqptest"
	"reeve.dev/reeve/internal/spool"
)

var kills = flag.Int("kills", 4, "how often TestPublisher_killed kills the broker")

func config(s *amqptest.Server, user, vhost string) amqp.Config {
	return amqp.Config{URL: s.URL(vhost), Username: user} // the password is guest
}

func openSpool(t *testing.T) *spool.Spool {
	t.Helper()
	s, err := spool.Open(t.TempDir(), spool.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s *spool.Spool, id, text string) {
	t.Helper()
	if err := s.Put(t.Context(), id, "insight", strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// start runs f until the returned function is called or the test ends.
func start(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

func publisher(t *testing.T, cfg amqp.Config) *amqp.Publisher {
	t.Helper()
	p := amqp.NewPublisher(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(func() { p.Close() })
	return p
}

func send(p *amqp.Publisher, s *spool.Spool) func(context.Context) error {
	return func(ctx context.Context) error { return s.Deliver(ctx, "", amqp.Batch, p.Send) }
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not in time: %s", what)
		}
	}
}

func empty(s *spool.Spool) func() bool { return func() bool { return s.Stats().Items == 0 } }

// zeros are as many as are read.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// take gets a message from the queue.
func take(t *testing.T, ch *rabbit.Channel) rabbit.Delivery {
	t.Helper()
	m, ok, err := ch.Get(amqp.Queue, true)
	if err != nil || !ok {
		t.Fatalf("nothing in the queue: %v", err)
	}
	return m
}

func items(t *testing.T, ch *rabbit.Channel) int {
	t.Helper()
	q, err := ch.QueueDeclarePassive(amqp.Queue, true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return q.Messages
}

// lagoonDeclares does what insights-handler and insights-remote do.
func lagoonDeclares(t *testing.T, ch *rabbit.Channel) {
	t.Helper()
	err := errors.Join(
		ch.ExchangeDeclare("lagoon-insights", "direct", true, false, false, false, nil),
		func() error {
			_, err := ch.QueueDeclare("lagoon-insights:items", true, false, false, false, nil)
			return err
		}(),
		ch.QueueBind("lagoon-insights:items", "", "lagoon-insights", false, nil))
	if err != nil {
		t.Fatal(err)
	}
}

func TestPublisher(t *testing.T) {
	files := certificates(t)
	server := amqptest.Start(t, files.server)
	admin := server.Channel(amqptest.Lagoon)

	t.Run("a user without the right to configure needs what is there", func(t *testing.T) {
		err := publisher(t, config(server, amqptest.Writer, amqptest.Lagoon)).Connect(t.Context())
		var refused *rabbit.Error
		if !errors.As(err, &refused) || refused.Code != rabbit.AccessRefused {
			t.Errorf("got %v, want ACCESS_REFUSED", err)
		}
	})
	t.Run("declares what is missing, as Lagoon does", func(t *testing.T) {
		s := openSpool(t)
		put(t, s, "id-1", `{"payload":null}`)
		stop := start(t, send(publisher(t, config(server, amqptest.Admin, amqptest.Lagoon)), s))
		until(t, "delivered", empty(s))
		stop()
		lagoonDeclares(t, admin) // the same, or 406
		got := take(t, admin)
		want := rabbit.Delivery{
			ContentType: "application/json", DeliveryMode: rabbit.Persistent, MessageId: "id-1",
			Exchange: "lagoon-insights", Body: []byte(`{"payload":null}`),
		}
		if got.Timestamp.IsZero() {
			t.Error("no timestamp")
		}
		got.Acknowledger, got.Timestamp, got.DeliveryTag = nil, time.Time{}, 0
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("uses what is there without the right to configure", func(t *testing.T) {
		s := openSpool(t)
		put(t, s, "id-2", "2")
		stop := start(t, send(publisher(t, config(server, amqptest.Writer, amqptest.Lagoon)), s))
		until(t, "delivered", empty(s))
		stop()
		if got := take(t, admin).MessageId; got != "id-2" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("one connection for many messages, in order", func(t *testing.T) {
		s := openSpool(t)
		p := publisher(t, config(server, amqptest.Admin, amqptest.Lagoon))
		stop := start(t, send(p, s))
		for i := range 600 {
			put(t, s, fmt.Sprint(i), fmt.Sprint(i))
		}
		until(t, "delivered", empty(s))
		stop()
		for i := range 600 {
			if got := string(take(t, admin).Body); got != fmt.Sprint(i) {
				t.Fatalf("message %d is %s", i, got)
			}
		}
	})
	t.Run("a message that no queue takes comes back, and is sent once one does", func(t *testing.T) {
		if err := admin.QueueUnbind(amqp.Queue, "", amqp.Exchange, nil); err != nil {
			t.Fatal(err)
		}
		s := openSpool(t)
		put(t, s, "id-3", "3")
		p := publisher(t, config(server, amqptest.Admin, amqptest.Lagoon))
		if n, err := p.Send(t.Context(), s.List()); n != 0 || err == nil || !strings.Contains(err.Error(), "NO_ROUTE") {
			t.Errorf("%d sent, %v; want NO_ROUTE", n, err)
		}
		// The next try binds the queue again.
		if n, err := p.Send(t.Context(), s.List()); n != 1 || err != nil {
			t.Errorf("%d sent, %v", n, err)
		}
		if got := take(t, admin).MessageId; got != "id-3" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("a queue that is full refuses, and nothing is taken for delivered", func(t *testing.T) {
		s := openSpool(t)
		for i := range 8 {
			put(t, s, fmt.Sprint(i), "x")
		}
		p := publisher(t, config(server, amqptest.Admin, amqptest.Full))
		n, err := p.Send(t.Context(), s.List())
		full := server.Channel(amqptest.Full)
		if err == nil || n > 3 || n < items(t, full)-1 {
			t.Errorf("%d sent, %v; the queue has %d", n, err, items(t, full))
		}
		// All arrive once somebody empties it.
		seen := map[string]bool{}
		stop := start(t, send(p, s))
		until(t, "delivered", func() bool {
			for {
				m, ok, err := full.Get(amqp.Queue, true)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					return s.Stats().Items == 0
				}
				seen[m.MessageId] = true
			}
		})
		stop()
		if len(seen) != 8 {
			t.Errorf("%d messages arrived, want 8", len(seen))
		}
	})
	t.Run("a large message takes no memory of its own", func(t *testing.T) {
		const size = 64 << 20
		s := openSpool(t)
		if err := s.Put(t.Context(), "large", "insight", io.LimitReader(zeros{}, size)); err != nil {
			t.Fatal(err)
		}
		p := publisher(t, config(server, amqptest.Admin, amqptest.Lagoon))
		if err := p.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if n, err := p.Send(t.Context(), s.List()); n != 1 || err != nil {
			t.Fatalf("%d sent, %v", n, err)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > size/8 {
			t.Errorf("sending %d bytes allocates %d", size, took)
		}
		if got := take(t, admin); got.MessageId != "large" || len(got.Body) != size {
			t.Errorf("got %s with %d bytes", got.MessageId, len(got.Body))
		}
	})
	t.Run("by TLS with a client's certificate", func(t *testing.T) {
		s := openSpool(t)
		put(t, s, "id-4", "4")
		cfg := amqp.Config{URL: server.TLSURL(amqptest.Lagoon), CAFile: files.server.CA, CertFile: files.cert, KeyFile: files.key}
		if n, err := publisher(t, cfg).Send(t.Context(), s.List()); n != 1 || err != nil {
			t.Fatalf("%d sent, %v", n, err)
		}
		if got := take(t, admin).MessageId; got != "id-4" {
			t.Errorf("got %s", got)
		}
		cfg.CAFile = ""
		if err := publisher(t, cfg).Connect(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("a broker of an unknown CA: %v", err)
		}
	})
	t.Run("a wrong password isn't in the error", func(t *testing.T) {
		t.Setenv("BROKER_PASSWORD", "hunter2")
		cfg := config(server, amqptest.Admin, amqptest.Lagoon)
		cfg.PasswordEnv = "BROKER_PASSWORD"
		p := publisher(t, cfg)
		err := p.Connect(t.Context())
		if err == nil || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
		if why := p.Trouble(); why != err.Error() {
			t.Errorf("the trouble is %q, want %q", why, err)
		}
	})
	t.Run("a broker that blocks publishers gets everything once it takes messages again", func(t *testing.T) {
		const messages = 600 // more than a batch
		s := openSpool(t)
		p := publisher(t, config(server, amqptest.Admin, amqptest.Lagoon))
		if err := p.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		server.Alarm(true)
		start(t, send(p, s))
		for i := range messages {
			put(t, s, fmt.Sprint(i), strings.Repeat("x", 1000))
		}
		// It is told to those who publish.
		until(t, "the block is told", func() bool { return strings.Contains(p.Trouble(), "disk") })
		if n := s.Stats().Items; n != messages {
			t.Errorf("%d messages wait, want all %d", n, messages)
		}
		server.Alarm(false)
		until(t, "delivered", empty(s))
		if why := p.Trouble(); why != "" {
			t.Errorf("the trouble is %q after all was delivered", why)
		}
		// Nothing was sent twice: it was one connection all the time.
		if n := items(t, admin); n != messages {
			t.Errorf("the queue has %d messages, want %d", n, messages)
		}
	})
}

// The broker is killed again and again while messages are put and sent, and
// every one of them arrives.
func TestPublisher_killed(t *testing.T) {
	const messages = 5000
	server := amqptest.Start(t, amqptest.TLS{})
	s := openSpool(t)
	cfg := config(server, amqptest.Admin, amqptest.Lagoon)
	start(t, send(publisher(t, cfg), s))
	for k := range *kills {
		for i := range messages / *kills {
			put(t, s, fmt.Sprint("m-", k, "-", i), fmt.Sprintf("message %d %d", k, i))
		}
		left := rand.IntN(messages / *kills)
		until(t, "some are sent", func() bool { return s.Stats().Items <= left })
		server.Kill()
		server.Restart()
	}
	until(t, "all are sent", empty(s))
	got := map[string]int{}
	admin := server.Channel(amqptest.Lagoon)
	for {
		m, ok, err := admin.Get(amqp.Queue, true)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		got[m.MessageId]++
	}
	if want := messages / *kills * *kills; len(got) != want {
		t.Errorf("%d messages arrived, want %d", len(got), want)
	}
	twice := 0
	for _, n := range got {
		twice += n - 1
	}
	t.Logf("%d kills: %d messages arrived, %d of them more than once", *kills, len(got), twice)
}

func TestConsumer(t *testing.T) {
	server := amqptest.Start(t, amqptest.TLS{})
	admin := server.Channel(amqptest.Lagoon)
	lagoonDeclares(t, admin)
	publish := func(id, body string) {
		t.Helper()
		if err := admin.PublishWithContext(t.Context(), amqp.Exchange, "", true, false, rabbit.Publishing{MessageId: id, Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var got []string // guarded by mu
	fail := true     // guarded by mu
	consumer := &amqp.Consumer{
		Config: config(server, amqptest.Writer, amqptest.Lagoon), Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Handle: func(_ context.Context, id string, body []byte) error {
			mu.Lock()
			defer mu.Unlock()
			if string(body) == "b" && fail {
				fail = false
				return errors.New("the database is away")
			}
			if id != "id-"+string(body) && len(id) != 36 {
				t.Errorf("message %s has the id %q", body, id)
			}
			got = append(got, string(body))
			return nil
		},
	}
	stop := start(t, consumer.Run)
	seen := func(n int) func() bool {
		return func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == n }
	}
	publish("id-a", "a")
	publish("", "b") // fails once, and comes again in its place
	publish("id-c", "c")
	until(t, "three messages", seen(3))

	// A second consumer waits for the end of the first.
	second := *consumer
	start(t, second.Run)
	publish("", "d")
	until(t, "four messages", seen(4))
	stop()
	publish("", "e")
	until(t, "five messages", seen(5))
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "e"}, got); diff != "" {
		t.Error(diff)
	}
	if n := items(t, admin); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

func TestConfig_Validate(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  amqp.Config
		says string
	}{
		"not amqp":          {amqp.Config{URL: "https://broker"}, "amqp://"},
		"no host":           {amqp.Config{URL: "amqp:"}, "amqp://"},
		"a password in it":  {amqp.Config{URL: "amqp://guest:hunter2@broker"}, "username"},
		"TLS without it":    {amqp.Config{URL: "amqp://broker", CAFile: "ca.pem"}, "amqps"},
		"half a key pair":   {amqp.Config{URL: "amqps://broker", CertFile: "cert.pem"}, "keyFile"},
		"good":              {amqp.Config{URL: "amqp://broker"}, ""},
		"good, with a host": {amqp.Config{URL: "amqps://broker:5671/%2f", CertFile: "c", KeyFile: "k", Insecure: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.cfg.Validate()
			if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want %q", err, tc.says)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Error("the password is in the error")
			}
		})
	}
}
