package amqp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	rabbit "github.com/rabbitmq/amqp091-go"
)

// prefetch bounds the messages that are in memory at once.
const prefetch = 2

// The pauses after a lost connection double from one to the other, and half
// of each is random.
const (
	minPause = 500 * time.Millisecond
	maxPause = 30 * time.Second
)

// maxID is the most bytes of a message id that is taken over.
const maxID = 200

// Consumer takes what is in Lagoon's queue.
type Consumer struct {
	Config Config
	// Handle stores a message and returns nil once it is durable; after an
	// error the message comes again. id is the sender's, the same for a
	// repeated message, or one of its own where the sender gave none.
	Handle func(ctx context.Context, id string, message []byte) error
	Logger *slog.Logger
}

// Run consumes until ctx is done, whose cause it returns. Whatever goes wrong in
// between is logged and tried again.
func (c *Consumer) Run(ctx context.Context) error {
	pause := minPause
	for ctx.Err() == nil {
		began := time.Now()
		err := c.consume(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > maxPause {
			pause = minPause
		}
		c.Logger.Warn("insights of the broker aren't taken now, will retry", "in", pause, "error", err)
		sleep(ctx, pause/2+rand.N(pause/2))
		pause = min(2*pause, maxPause)
	}
	return context.Cause(ctx)
}

// consume takes messages by one connection until that ends.
func (c *Consumer) consume(ctx context.Context) error {
	l, err := c.Config.open(false)
	if err != nil {
		return err
	}
	defer l.Close()
	closed := l.NotifyClose(make(chan *rabbit.Error, 1))
	if err := l.Qos(prefetch, 0, false); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	// exclusive: one consumer at a time.
	messages, err := l.ConsumeWithContext(ctx, Queue, "", false, true, false, false, nil)
	var refused *rabbit.Error
	if errors.As(err, &refused) && refused.Code == rabbit.AccessRefused {
		return fmt.Errorf("broker: somebody else consumes %s, another replica of this hub or an insights-handler: %w", Queue, err)
	}
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	c.Logger.Info("taking insights of the broker", "broker", l.conn.RemoteAddr().String(), "queue", Queue)
	for {
		select {
		case m, open := <-messages:
			if !open {
				return ended(closed)
			}
			if err := c.Handle(ctx, id(m), m.Body); err != nil {
				return err // unacknowledged, so it comes again, in its place
			}
			if err := m.Ack(false); err != nil {
				return fmt.Errorf("broker: %w", err)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ended says why there are no more messages.
func ended(closed <-chan *rabbit.Error) error {
	select {
	case err := <-closed: // a moment after the messages end
		if err != nil {
			return fmt.Errorf("broker: %w", err)
		}
		return errors.New("broker: the connection was closed")
	case <-time.After(time.Second):
		return errors.New("broker: the consumer was cancelled; was the queue deleted?")
	}
}

// id is the sender's. Messages without one are often alike and yet not the
// same, such as two deletions.
func id(m rabbit.Delivery) string {
	if m.MessageId != "" && len(m.MessageId) <= maxID {
		return m.MessageId
	}
	return uuid.NewString()
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
