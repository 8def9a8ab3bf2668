// Package broker takes events from the user's own message broker, and sends
// events to it: NATS, RabbitMQ and Kafka, through gocloud.dev/pubsub.
//
// A message is a CloudEvent, structured or in binary mode as the broker's
// binding has it. It is acknowledged once it is a row, so that RabbitMQ and
// Kafka give again what a hub that died had not kept; NATS itself keeps
// nothing, and what comes while no hub listens is lost. What isn't an event is
// kept as an invalid one, so that it is seen and holds nothing up.
//
// RabbitMQ's queue and exchange must be there. Several replicas of the hub
// share a group, so that each event goes to one of them.
package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/nats-io/nats.go"
	amqp "github.com/rabbitmq/amqp091-go"
	"gocloud.dev/pubsub"
	"gocloud.dev/pubsub/kafkapubsub"
	"gocloud.dev/pubsub/natspubsub"
	"gocloud.dev/pubsub/rabbitpubsub"

	"reeve.dev/reeve/event"
)

// Config says where a broker is, and what there.
type Config struct {
	// URL is nats://HOST:PORT, amqp://HOST:PORT/VHOST or
	// kafka://HOST:PORT,HOST:PORT; tls://, amqps:// and kafkas:// are over TLS.
	URL string `yaml:"url"`
	// Topic is NATS' subject, RabbitMQ's queue (to send to: its exchange) or
	// Kafka's topic.
	Topic string `yaml:"topic"`
	// Group is what the replicas share; it isn't used for RabbitMQ, whose
	// queues are such, and not for sending.
	Group string `yaml:"group"`
	// Username and the password in PasswordFile are for the broker's own way
	// of asking for them; Kafka's is SASL PLAIN.
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"passwordFile"`
	// CAFile holds the certificates that the broker's is verified with;
	// empty: the system's.
	CAFile string `yaml:"caFile"`
}

const (
	// DefaultGroup is the Group of one that names none.
	DefaultGroup = "reeve"

	workers    = 16
	dialTime   = 15 * time.Second
	firstPause = time.Second
	mostPause  = time.Minute
)

// Validate reports the first thing that is wrong with c, without reading the
// files.
func (c Config) Validate() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || schemes[u.Scheme] == "":
		return errors.New("url: it must be nats://, tls:// (NATS), amqp://, amqps://, kafka:// or kafkas:// and HOST:PORT")
	case u.User != nil:
		return errors.New("url: it must not hold a user or password; use username and passwordFile")
	case c.Topic == "":
		return errors.New("topic: is missing")
	case (c.Username == "") != (c.PasswordFile == ""):
		return errors.New("username and passwordFile: give both or neither")
	case c.CAFile != "" && !c.encrypted():
		return fmt.Errorf("caFile: %s:// isn't over TLS", u.Scheme)
	}
	return nil
}

var schemes = map[string]string{"nats": "nats", "tls": "nats", "amqp": "amqp", "amqps": "amqp", "kafka": "kafka", "kafkas": "kafka"}

func (c Config) scheme() string { s, _, _ := strings.Cut(c.URL, "://"); return s }

func (c Config) encrypted() bool {
	s := c.scheme()
	return s == "tls" || s == "amqps" || s == "kafkas"
}

// secrets reads the files, anew for each connection so that they can be
// renewed in place.
func (c Config) secrets() (password string, conf *tls.Config, err error) {
	if c.PasswordFile != "" {
		text, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return "", nil, fmt.Errorf("passwordFile: %w", err)
		}
		password = strings.TrimRight(string(text), "\r\n")
	}
	if !c.encrypted() {
		return password, nil, nil
	}
	conf = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return "", nil, fmt.Errorf("caFile: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return "", nil, fmt.Errorf("caFile: %s holds no certificate in PEM", c.CAFile)
		}
	}
	return password, conf, nil
}

func (c Config) nats() (*nats.Conn, error) {
	password, conf, err := c.secrets()
	if err != nil {
		return nil, err
	}
	opts := []nats.Option{nats.Name("reeve"), nats.MaxReconnects(-1), nats.Timeout(dialTime)}
	if c.Username != "" {
		opts = append(opts, nats.UserInfo(c.Username, password))
	}
	if conf != nil {
		opts = append(opts, nats.Secure(conf))
	}
	return nats.Connect(c.URL, opts...)
}

func (c Config) amqp() (*amqp.Connection, error) {
	password, conf, err := c.secrets()
	if err != nil {
		return nil, err
	}
	dial := amqp.Config{TLSClientConfig: conf, Dial: amqp.DefaultDial(dialTime), Heartbeat: 10 * time.Second, Locale: "en_US"}
	if c.Username != "" {
		dial.SASL = []amqp.Authentication{&amqp.PlainAuth{Username: c.Username, Password: password}}
	}
	return amqp.DialConfig(c.URL, dial)
}

func (c Config) kafka() (brokers []string, conf *sarama.Config, err error) {
	password, tlsConf, err := c.secrets()
	if err != nil {
		return nil, nil, err
	}
	conf = kafkapubsub.MinimalConfig()
	conf.ClientID = "reeve"
	conf.Net.DialTimeout = dialTime
	conf.Consumer.Offsets.Initial = sarama.OffsetOldest // of a group that is new
	conf.Producer.RequiredAcks = sarama.WaitForAll
	conf.Net.TLS.Enable, conf.Net.TLS.Config = tlsConf != nil, tlsConf
	if c.Username != "" {
		conf.Net.SASL.Enable, conf.Net.SASL.User, conf.Net.SASL.Password = true, c.Username, password
	}
	_, hosts, _ := strings.Cut(c.URL, "://")
	return strings.Split(strings.TrimSuffix(hosts, "/"), ","), conf, nil
}

func (c Config) subscribe() (*pubsub.Subscription, func(), error) {
	group := c.Group
	if group == "" {
		group = DefaultGroup
	}
	nothing := func() {}
	switch schemes[c.scheme()] {
	case "nats":
		conn, err := c.nats()
		if err != nil {
			return nil, nothing, err
		}
		sub, err := natspubsub.OpenSubscriptionV2(conn, c.Topic, &natspubsub.SubscriptionOptions{Queue: group})
		return sub, conn.Close, err
	case "amqp":
		conn, err := c.amqp()
		if err != nil {
			return nil, nothing, err
		}
		return rabbitpubsub.OpenSubscription(conn, c.Topic, nil), func() { conn.Close() }, nil
	}
	brokers, conf, err := c.kafka()
	if err != nil {
		return nil, nothing, err
	}
	sub, err := kafkapubsub.OpenSubscription(brokers, conf, group, []string{c.Topic}, nil)
	return sub, nothing, err
}

// Receiver keeps events; *event.Service is one.
type Receiver interface {
	Accept(ctx context.Context, by string, events []event.Event) ([]bool, error)
}

// Run hands the events of the broker to to, until ctx is done. It connects
// again whenever the connection is lost. by names the broker in records.
func (c Config) Run(ctx context.Context, by string, to Receiver, log *slog.Logger) {
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		began := time.Now()
		err := c.receive(ctx, by, to, log)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > mostPause {
			pause = firstPause
		}
		log.WarnContext(ctx, "no events from the broker, will try again", "broker", by, "again", pause, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// receive takes messages until one can't be had.
func (c Config) receive(ctx context.Context, by string, to Receiver, log *slog.Logger) error {
	sub, done, err := c.subscribe()
	defer done()
	if err != nil {
		return err
	}
	defer func() {
		// What was acknowledged is told to the broker in the background.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		sub.Shutdown(end)
	}()
	log.InfoContext(ctx, "takes events from the broker", "broker", by, "topic", c.Topic)
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var all sync.WaitGroup
	for range workers { // those that wait together are written together
		all.Go(func() {
			for {
				m, err := sub.Receive(ctx)
				if err != nil {
					fail(err)
					return
				}
				if err := keep(ctx, by, to, m, log); err != nil {
					if m.Nackable() {
						m.Nack()
					}
					return // with ctx
				}
				m.Ack()
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// keep has a message's events kept, however long that takes: meanwhile the
// broker keeps what comes.
func keep(ctx context.Context, by string, to Receiver, m *pubsub.Message, log *slog.Logger) error {
	message := event.Message{Attributes: event.AttributesOf(maps.All(m.Metadata)), Body: m.Body}
	for name, value := range m.Metadata {
		if n := strings.ToLower(name); n == "content-type" || n == "contenttype" {
			message.ContentType = value
		}
	}
	events, err := event.Decode(message)
	if err != nil {
		log.WarnContext(ctx, "the broker's message isn't an event", "broker", by, "error", err)
		events = []event.Event{event.Unreadable(by, message, err)}
	}
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		if _, err = to.Accept(ctx, by, events); err == nil || ctx.Err() != nil {
			return err
		}
		log.WarnContext(ctx, "can't keep the broker's events, will try again", "broker", by, "again", pause, "error", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// Topic sends events to the broker; it connects with the first, and again when
// the connection was lost.
type Topic struct {
	cfg Config

	mu    sync.Mutex
	topic *pubsub.Topic // guarded by mu, as is the next
	close func()
}

// NewTopic returns the topic that cfg names.
func NewTopic(cfg Config) *Topic { return &Topic{cfg: cfg} }

// Send hands an event over, structured in JSON, and returns once the broker
// has it; NATS doesn't say more than that it was sent.
func (t *Topic) Send(ctx context.Context, body []byte) error {
	topic, err := t.open()
	if err != nil {
		return err
	}
	if err = topic.Send(ctx, &pubsub.Message{Body: body, Metadata: map[string]string{"content-type": event.StructuredType}}); err != nil {
		t.Close()
	}
	return err
}

func (t *Topic) open() (*pubsub.Topic, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.topic != nil {
		return t.topic, nil
	}
	switch schemes[t.cfg.scheme()] {
	case "nats":
		conn, err := t.cfg.nats()
		if err != nil {
			return nil, err
		}
		topic, err := natspubsub.OpenTopicV2(conn, t.cfg.Topic, nil)
		if err != nil {
			conn.Close()
			return nil, err
		}
		t.topic, t.close = topic, conn.Close
	case "amqp":
		conn, err := t.cfg.amqp()
		if err != nil {
			return nil, err
		}
		t.topic, t.close = rabbitpubsub.OpenTopic(conn, t.cfg.Topic, nil), func() { conn.Close() }
	default:
		brokers, conf, err := t.cfg.kafka()
		if err != nil {
			return nil, err
		}
		if t.topic, err = kafkapubsub.OpenTopic(brokers, conf, t.cfg.Topic, nil); err != nil {
			return nil, err
		}
		t.close = func() {}
	}
	return t.topic, nil
}

// Close ends the connection, if there is one.
func (t *Topic) Close() error {
	t.mu.Lock()
	topic, done := t.topic, t.close
	t.topic = nil
	t.mu.Unlock()
	if topic == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := topic.Shutdown(ctx)
	done()
	return err
}
