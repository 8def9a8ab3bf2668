package kube_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	rabbit "github.com/rabbitmq/amqp091-go"
	corev1 "k8s.io/api/core/v1"

	"reeve.dev/reeve/insight/amqp"
	"reeve.dev/reeve/insight/amqp/amqptest"
	"reeve.dev/reeve/insight/kube"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/internal/spool"
)

// What Lagoon's queue gets of a ConfigMap in a real cluster is, byte for byte,
// what insights-remote sends: its fields in their order, nil maps null, the bytes
// in standard base64. The message is persistent and has an id.
func TestWatcher_toTheBroker(t *testing.T) {
	c := connect(t)
	server := amqptest.Start(t, amqptest.TLS{})
	s := openSpool(t, spool.Config{})
	broker := amqp.NewPublisher(amqp.Config{URL: server.URL(amqptest.Lagoon), Username: amqptest.Admin}, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { broker.Close() })
	start(t, func(ctx context.Context) error { return s.Deliver(ctx, "", amqp.Batch, broker.Send) })
	start(t, c.watcher(s, func(cfg *kube.Config) { cfg.ToCore.Only = true }).Run)

	wanted := sbomMap("sbom", "all bytes: \x00\xff<&>\u2028")
	wanted.Annotations[lagoon.AnnotationCoreEnabled] = "true"
	wanted = c.create(t, wanted)
	text := sbomMap("text", "")
	text.BinaryData, text.Data = nil, map[string]string{"image-inspect.json": `{"Name": "<nginx>"}`}
	text.Labels[lagoon.LabelInsightsType] = "image-gz"
	text.Annotations[lagoon.AnnotationCoreEnabled] = "true"
	c.create(t, sbomMap("not-for-core", "")) // isn't annotated, so only marked
	c.sees(t, "sbom", "taken", processed)
	text = c.create(t, text)
	c.sees(t, "text", "taken", processed)
	c.sees(t, "not-for-core", "marked", processed)

	for _, cm := range []*corev1.ConfigMap{wanted, text} {
		m := next(t, server)
		if want := lagoonMessage(t, c, cm); string(m.Body) != want {
			t.Errorf("the message of %s (-want +got):\n%s", cm.Name, cmp.Diff(want, string(m.Body)))
		}
		if m.DeliveryMode != rabbit.Persistent || m.MessageId == "" || m.ContentType != "application/json" || m.RoutingKey != "" || m.Exchange != "lagoon-insights" {
			t.Errorf("the message of %s is %+v", cm.Name, m)
		}
	}
}

// next waits for a message in Lagoon's queue.
func next(t *testing.T, server *amqptest.Server) (m rabbit.Delivery) {
	t.Helper()
	ch := server.Channel(amqptest.Lagoon)
	until(t, "a message in the queue", func() (ok bool) {
		var err error
		m, ok, err = ch.Get(amqp.Queue, true)
		var refused *rabbit.Error
		switch {
		case errors.As(err, &refused) && refused.Code == rabbit.NotFound:
			ch = server.Channel(amqptest.Lagoon) // the publisher makes the queue when it connects
		case err != nil:
			t.Fatal(err)
		}
		return ok
	})
	return m
}

// lagoonMessage is the text that Go's encoder makes of insights-remote's struct.
func lagoonMessage(t *testing.T, c *cluster, cm *corev1.ConfigMap) string {
	t.Helper()
	member := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var binary map[string]string
	for name, data := range cm.BinaryData {
		if binary == nil {
			binary = map[string]string{}
		}
		binary[name] = base64.StdEncoding.EncodeToString(data)
	}
	return `{"payload":` + member(cm.Data) + `,"binaryPayload":` + member(binary) +
		`,"annotations":` + member(cm.Annotations) + `,"labels":` + member(cm.Labels) +
		`,"namespace":` + member(c.namespace) + `,"environment":"main","service":"nginx","project":"shop","type":` + member(lagoon.TypeOf(cm.Labels)) + `}`
}
