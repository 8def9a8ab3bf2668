package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"reeve.dev/reeve/event"
	"reeve.dev/reeve/event/broker"
	"reeve.dev/reeve/insight/amqp/amqptest"
	"reeve.dev/reeve/store/sqlite"
)

var quiet = slog.New(slog.DiscardHandler)

// system is a broker, where an event that is sent to out comes by in.
type system struct {
	in, out broker.Config
	// binary sends an event in binary mode; nil where that isn't tested.
	binary func(t *testing.T)
	// ready waits until somebody listens, where nothing is kept before.
	ready func(t *testing.T)
}

func startNATS(t *testing.T) system {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, Username: "reeve", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("NATS isn't ready")
	}
	c := broker.Config{URL: s.ClientURL(), Topic: "reeve.events", Username: "reeve", PasswordFile: file(t, "secret\n")}
	return system{
		in: c, out: c,
		ready: func(t *testing.T) {
			until(t, func() bool {
				z, err := s.Subsz(&server.SubszOptions{Subscriptions: true, Test: "reeve.events"})
				return err == nil && len(z.Subs) > 0
			})
		},
		binary: func(t *testing.T) {
			conn, err := nats.Connect(s.ClientURL(), nats.UserInfo("reeve", "secret"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			m := nats.NewMsg("reeve.events")
			for k, v := range attributes {
				m.Header.Set("ce-"+k, v)
			}
			m.Header.Set("content-type", "application/json")
			m.Data = []byte(data)
			if err := errors.Join(conn.PublishMsg(m), conn.Flush()); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func startRabbit(t *testing.T) system {
	s := amqptest.Start(t, amqptest.TLS{})
	ch := s.Channel(amqptest.Lagoon)
	_, queueErr := ch.QueueDeclare("events", true, false, false, false, nil)
	if err := errors.Join(queueErr, ch.ExchangeDeclare("out", "fanout", true, false, false, false, nil), ch.QueueBind("events", "", "out", false, nil)); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(s.URL(amqptest.Lagoon))
	if err != nil {
		t.Fatal(err)
	}
	at := broker.Config{URL: "amqp://" + u.Host, Username: amqptest.Admin, PasswordFile: file(t, amqptest.Password)}
	in, out := at, at
	in.Topic, out.Topic = "events", "out"
	return system{in: in, out: out, binary: func(t *testing.T) {
		headers := amqp.Table{}
		for k, v := range attributes {
			headers["cloudEvents:"+k] = v
		}
		if err := ch.Publish("out", "", false, false, amqp.Publishing{Headers: headers, ContentType: "application/json", Body: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}}
}

func startKafka(t *testing.T) system {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "events"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	at := broker.Config{URL: "kafka://" + strings.Join(c.ListenAddrs(), ","), Topic: "events"}
	return system{in: at, out: at}
}

const data = `{"agent":"edge","namespace":"shop","pod":"web-b","container":"app"}`

var attributes = map[string]string{"specversion": "1.0", "id": "binary", "source": "//bus", "type": "container.deployed"}

func text(id string) []byte {
	return fmt.Appendf(nil, `{"specversion":"1.0","id":%q,"source":"//bus","type":"container.deployed","data":%s}`, id, data)
}

// What comes from a broker is kept, what isn't an event too, and nothing is
// lost of what a hub that is gone hadn't kept.
func TestBrokers(t *testing.T) {
	for name, start := range map[string]func(*testing.T) system{"NATS": startNATS, "RabbitMQ": startRabbit, "Kafka": startKafka} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			if err := errors.Join(s.in.Validate(), s.out.Validate()); err != nil {
				t.Fatal(err)
			}
			kept := newKept(t)
			stop := run(t, s.in, kept)
			if s.ready != nil {
				s.ready(t)
			}
			topic := broker.NewTopic(s.out)
			defer topic.Close()
			want := []string{"0", "1", "2", "3"}
			for _, id := range want {
				if err := topic.Send(t.Context(), text(id)); err != nil {
					t.Fatal(err)
				}
			}
			if err := topic.Send(t.Context(), []byte("hello")); err != nil {
				t.Fatal(err)
			}
			if s.binary != nil {
				s.binary(t)
				want = append(want, "binary")
			}
			kept.want(t, append(want, "unreadable"))
			stop()
			if s.ready != nil {
				return // it keeps nothing for who isn't there
			}
			if err := topic.Send(t.Context(), text("later")); err != nil {
				t.Fatal(err)
			}
			// A hub that can't keep it, and is gone.
			failing := &broken{err: errors.New("the disk is full"), asked: make(chan struct{})}
			stop = run(t, s.in, failing)
			<-failing.asked
			stop()
			stop = run(t, s.in, kept)
			kept.want(t, append(want, "unreadable", "later"))
			stop()
		})
	}
}

// broken keeps nothing.
type broken struct {
	err   error
	once  sync.Once
	asked chan struct{}
}

func (k *broken) Accept(context.Context, string, []event.Event) ([]bool, error) {
	k.once.Do(func() { close(k.asked) })
	return nil, k.err
}

// kept is a real service on a store.
type kept struct{ *event.Service }

func newKept(t *testing.T) kept {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return kept{event.New(event.Config{Store: db, MaxPending: 100, Logger: quiet})}
}

func (k kept) want(t *testing.T, names []string) {
	t.Helper()
	slices.Sort(names)
	var got []string
	until(t, func() bool {
		list, err := k.Events(t.Context(), event.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		got = got[:0]
		for _, e := range list {
			name := e.Name
			if e.Type == "unreadable" && e.State == event.Invalid && e.By == "broker:bus" {
				name = "unreadable"
			}
			got = append(got, name)
		}
		return len(got) >= len(names)
	})
	slices.Sort(got)
	if d := cmp.Diff(names, got); d != "" {
		t.Errorf("kept (-want +got):\n%s", d)
	}
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("not within a minute")
		}
		<-time.After(5 * time.Millisecond)
	}
}

func run(t *testing.T, c broker.Config, to broker.Receiver) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx, "broker:bus", to, slog.New(slog.NewTextHandler(t.Output(), nil)))
	}()
	return sync.OnceFunc(func() { cancel(); <-done })
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A broker that isn't there is tried again, and its error holds no secret.
func TestTopic_away(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	for _, scheme := range []string{"nats://", "amqp://", "kafka://"} {
		topic := broker.NewTopic(broker.Config{URL: scheme + at, Topic: "t", Username: "reeve", PasswordFile: file(t, "hunter2")})
		err := topic.Send(t.Context(), text("1"))
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", scheme, err)
		}
		topic.Close()
	}
}

func TestConfig_Validate(t *testing.T) {
	for want, c := range map[string]broker.Config{
		"url":                          {URL: "redis://h:1", Topic: "t"},
		"url: it must":                 {URL: "nats://", Topic: "t"},
		"url: it must not hold a user": {URL: "nats://u:p@h:1", Topic: "t"},
		"topic":                        {URL: "nats://h:1"},
		"username":                     {URL: "nats://h:1", Topic: "t", Username: "u"},
		"caFile":                       {URL: "nats://h:1", Topic: "t", CAFile: "f"},
	} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%v; want an error of %s", err, want)
		}
	}
}
