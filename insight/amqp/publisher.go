package amqp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	rabbit "github.com/rabbitmq/amqp091-go"

	"reeve.dev/reeve/internal/spool"
)

// Batch is how much is under way at once.
var Batch = spool.Batch{Items: 256, Bytes: 16 << 20}

// confirmTime is how long a confirmation may take before the connection is
// given up. A broker confirms what is on its disk, within a second.
const confirmTime = 30 * time.Second

// Publisher sends what is spooled to the broker. Its methods may be called by
// many goroutines, Send by one at a time.
type Publisher struct {
	cfg Config
	log *slog.Logger

	mu   sync.Mutex
	link *session // guarded by mu; nil while there is none

	// Send's own: a message came back, or was too large.
	unbound, large bool

	trouble atomic.Pointer[string] // of the last try; nil while there is none
}

// session is a link in the mode of confirmations.
type session struct {
	*link
	returns chan rabbit.Return
	closed  chan *rabbit.Error
	blocked atomic.Pointer[string] // why the broker blocks publishers; nil while it doesn't
}

// NewPublisher makes a Publisher; it connects when there is something to send.
func NewPublisher(cfg Config, logger *slog.Logger) *Publisher {
	return &Publisher{cfg: cfg, log: logger}
}

// Connect connects unless there is a connection already.
func (p *Publisher) Connect(ctx context.Context) error {
	_, err := p.session(ctx)
	p.note(err)
	return err
}

// Trouble says why the broker takes nothing: that it blocks publishers, or what
// was wrong the last time. It is empty while nothing is.
func (p *Publisher) Trouble() string {
	p.mu.Lock()
	s := p.link
	p.mu.Unlock()
	if s != nil {
		if reason := s.blocked.Load(); reason != nil {
			return "the broker blocks publishers: " + *reason
		}
	}
	if text := p.trouble.Load(); text != nil {
		return *text
	}
	return ""
}

// note remembers what came of a try.
func (p *Publisher) note(err error) {
	if err == nil {
		p.trouble.Store(nil)
		return
	}
	p.trouble.Store(new(err.Error()))
}

// Close ends the connection; a Send that runs ends with an error.
func (p *Publisher) Close() error {
	p.drop()
	return nil
}

// Send publishes items, at most those of a Batch, and answers how many of them,
// from the first on, the broker has confirmed; it is what Spool.Deliver calls.
func (p *Publisher) Send(ctx context.Context, items []spool.Item) (n int, err error) {
	defer func() {
		if ctx.Err() == nil {
			p.note(err)
		}
	}()
	s, err := p.session(ctx)
	if err != nil {
		return 0, err
	}
	if p.large {
		items = items[:1]
	}
	// The library's writes know no context.
	stop := context.AfterFunc(ctx, func() { s.socket.Close() })
	defer stop()
	n, err = p.publish(ctx, s, items)
	if err != nil {
		p.drop() // its confirmations are out of step with ours
	}
	return n, err
}

func (p *Publisher) publish(ctx context.Context, s *session, items []spool.Item) (int, error) {
	confirms := make([]*rabbit.DeferredConfirmation, 0, len(items))
	var failed error
	for _, it := range items {
		body, unmap, err := it.Map()
		if err != nil {
			failed = err
			break
		}
		c, err := s.PublishWithDeferredConfirmWithContext(ctx, Exchange, key, true, false, rabbit.Publishing{
			ContentType: "application/json", DeliveryMode: rabbit.Persistent,
			MessageId: it.ID, Timestamp: it.Stored, Body: body,
		})
		unmap() // all of it has been written, or never will be
		if err != nil {
			failed = err
			break
		}
		confirms = append(confirms, c)
	}
	returned := map[string]rabbit.Return{}
	for i, c := range confirms {
		if err := s.confirmed(ctx, c); err != nil {
			return i, p.why(s, items[i], err)
		}
		// The broker sends a message back before it confirms it.
		for len(s.returns) > 0 {
			r := <-s.returns
			returned[r.MessageId] = r
		}
		if r, ok := returned[items[i].ID]; ok {
			p.unbound = true
			return i, fmt.Errorf("broker: no queue takes the messages of exchange %s: %d %s", Exchange, r.ReplyCode, r.ReplyText)
		}
	}
	if failed != nil {
		return len(confirms), p.why(s, items[len(confirms)], failed)
	}
	return len(items), nil
}

var errRefused = errors.New("the broker refused it")

// confirmed waits until the broker has the message. It waits on while the
// broker says that it blocks publishers.
func (s *session) confirmed(ctx context.Context, c *rabbit.DeferredConfirmation) error {
	late := time.NewTicker(confirmTime)
	defer late.Stop()
	for {
		select {
		case <-c.Done():
			if !c.Acked() {
				return errRefused
			}
			return nil
		case <-late.C:
			if s.blocked.Load() == nil {
				return fmt.Errorf("no confirmation within %s", confirmTime)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// why makes an error of what ended the sending of it: the broker says so at
// the end of the channel.
func (p *Publisher) why(s *session, it spool.Item, err error) error {
	select {
	case closed := <-s.closed:
		if closed != nil {
			err = closed
		}
	default:
	}
	if errors.Is(err, errRefused) {
		return fmt.Errorf("broker: insight %s: %w: its queue is full, or the connection was lost", it.ID, err)
	}
	err = fmt.Errorf("broker: insight %s: %w", it.ID, err)
	var closed *rabbit.Error
	if errors.As(err, &closed) && closed.Code == rabbit.PreconditionFailed && strings.Contains(closed.Reason, "larger than") {
		// Than the broker's max_message_size; which one is known once it is
		// alone.
		if p.large {
			err = spool.Permanent(err)
		}
		p.large = !p.large
	}
	return err
}

// session is the one there is, or a new one.
func (p *Publisher) session(ctx context.Context) (*session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != nil && !p.link.conn.IsClosed() && !p.link.IsClosed() {
		return p.link, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if p.link != nil {
		p.link.Close()
		p.link = nil
	}
	l, err := p.cfg.open(p.unbound)
	if err != nil {
		return nil, err
	}
	p.unbound = false
	if err := l.Confirm(false); err != nil {
		l.Close()
		return nil, fmt.Errorf("broker: %w", err)
	}
	s := &session{
		link:    l,
		returns: l.NotifyReturn(make(chan rabbit.Return, Batch.Items)),
		closed:  l.NotifyClose(make(chan *rabbit.Error, 1)),
	}
	go p.watch(s, l.conn.NotifyBlocked(make(chan rabbit.Blocking)))
	p.link = s
	p.log.Info("connected to the broker", "broker", l.conn.RemoteAddr().String())
	return s, nil
}

// watch notes that the broker blocks publishers, until the connection ends.
func (p *Publisher) watch(s *session, blockings <-chan rabbit.Blocking) {
	for b := range blockings {
		if b.Active {
			s.blocked.Store(&b.Reason)
			p.log.Warn("the broker blocks publishers; insights wait in the spool", "reason", b.Reason)
		} else {
			s.blocked.Store(nil)
			p.log.Info("the broker takes insights again")
		}
	}
}

func (p *Publisher) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != nil {
		p.link.Close()
		p.link = nil
	}
}
