package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"regexp"
	"slices"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
)

var digest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// The media types of CloudEvents in JSON.
const (
	StructuredType = "application/cloudevents+json"
	BatchType      = "application/cloudevents-batch+json"
)

// Message is what carries events: a request, or a broker's message. Attributes
// are those of an event in binary mode, without prefix and in lower case.
type Message struct {
	ContentType string
	Attributes  map[string]string
	Body        []byte
}

// AttributesOf picks the attributes of an event in binary mode from headers,
// by the prefixes that the bindings of CloudEvents have: ce-id of HTTP and
// NATS, ce_id of Kafka, cloudEvents:id and cloudEvents_id of AMQP.
func AttributesOf(headers func(yield func(name, value string) bool)) map[string]string {
	out := map[string]string{}
	for name, value := range headers {
		name = strings.ToLower(name)
		for _, prefix := range []string{"ce-", "ce_", "cloudevents:", "cloudevents_"} {
			if attr, ok := strings.CutPrefix(name, prefix); ok {
				out[attr] = value
				break
			}
		}
	}
	return out
}

// Decode reads the events of a message in any of the three modes. What is
// wrong with an envelope is an *InvalidError, and then none is returned. What
// is wrong with the data of one makes that event Invalid.
func Decode(m Message) ([]Event, error) {
	if len(m.Body) > MaxBatch {
		return nil, invalid("", "the message has %d bytes; at most %d", len(m.Body), MaxBatch)
	}
	media, _, _ := mime.ParseMediaType(m.ContentType)
	switch {
	case media == BatchType, m.Attributes["specversion"] == "" && bytes.HasPrefix(bytes.TrimSpace(m.Body), []byte("[")):
		return decodeBatch(m.Body)
	case media == StructuredType, m.Attributes["specversion"] == "" && structured(m.Body):
		e, err := decodeOne(m.Body)
		return []Event{e}, err
	case strings.HasPrefix(media, "application/cloudevents"):
		return nil, invalid("", "the content type %q isn't understood; use %s, %s or binary mode", media, StructuredType, BatchType)
	}
	e, err := decodeBinary(m)
	return []Event{e}, err
}

// structured reports whether a body without attributes around it is an event
// in structured mode: many senders call it application/json, as they do a
// batch.
func structured(body []byte) bool {
	var probe struct {
		SpecVersion string `json:"specversion"`
	}
	return json.Unmarshal(body, &probe) == nil && probe.SpecVersion != ""
}

func decodeBatch(body []byte) ([]Event, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, invalid("", "the body isn't a list of events in JSON: %v", err)
	}
	if len(list) > MaxEvents {
		return nil, invalid("", "the batch has %d events; at most %d", len(list), MaxEvents)
	}
	out := make([]Event, len(list))
	for i, text := range list {
		var err error
		if out[i], err = decodeOne(text); err != nil {
			var bad *InvalidError
			if errors.As(err, &bad) {
				bad.Field = strings.TrimSuffix(fmt.Sprintf("[%d].%s", i, bad.Field), ".")
			}
			return nil, err
		}
	}
	return out, nil
}

func decodeOne(text []byte) (Event, error) {
	var ce cloudevents.Event
	if err := json.Unmarshal(text, &ce); err != nil {
		reason, _, _ := strings.Cut(err.Error(), ", error found in") // and an excerpt
		return Event{}, invalid("", "the event isn't CloudEvents in JSON: %s", reason)
	}
	return fromCloudEvent(&ce)
}

func decodeBinary(m Message) (Event, error) {
	version := m.Attributes["specversion"]
	if version != cloudevents.CloudEventsVersionV1 {
		return Event{}, invalid("specversion", "%q must be 1.0: send CloudEvents 1.0, structured (%s), as a batch or with ce- headers", version, StructuredType)
	}
	ce := cloudevents.New(version)
	for name, value := range m.Attributes {
		switch name {
		case "specversion":
		case "id":
			ce.SetID(value)
		case "source":
			ce.SetSource(value)
		case "type":
			ce.SetType(value)
		case "subject":
			ce.SetSubject(value)
		case "dataschema":
			ce.SetDataSchema(value)
		case "time":
			at, err := time.Parse(time.RFC3339Nano, value)
			if err != nil {
				return Event{}, invalid("time", "%q must be as in RFC 3339", value)
			}
			ce.SetTime(at)
		default:
			ce.SetExtension(name, value)
		}
	}
	if m.ContentType != "" {
		ce.SetDataContentType(m.ContentType)
	}
	ce.DataEncoded = m.Body
	ce.DataBase64 = !json.Valid(m.Body)
	return fromCloudEvent(&ce)
}

// fromCloudEvent checks the envelope and reads the data.
func fromCloudEvent(ce *cloudevents.Event) (Event, error) {
	if v := ce.SpecVersion(); v != cloudevents.CloudEventsVersionV1 {
		return Event{}, invalid("specversion", "%q must be 1.0", v)
	}
	if err := ce.Validate(); err != nil {
		return Event{}, envelopeError(err)
	}
	for _, a := range []struct{ name, value string }{
		{"id", ce.ID()}, {"source", ce.Source()}, {"type", ce.Type()}, {"subject", ce.Subject()},
	} {
		if len(a.value) > maxName {
			return Event{}, invalid(a.name, "has more than %d bytes", maxName)
		}
	}
	body, err := ce.MarshalJSON()
	if err != nil {
		return Event{}, invalid("data", "%v", err)
	}
	if len(body) > MaxEvent {
		return Event{}, invalid("", "the event has %d bytes; at most %d", len(body), MaxEvent)
	}
	e := Event{Source: ce.Source(), Name: ce.ID(), Type: ce.Type(), Subject: ce.Subject(), Time: ce.Time(), Body: body}
	e.readData(ce)
	return e, nil
}

// readData reads e's data, or says why that can't be done.
func (e *Event) readData(ce *cloudevents.Event) {
	bad := e.decodeData(ce)
	if bad == nil {
		bad = e.Data.validate(e.Type)
	}
	e.State, e.Reason = Pending, ""
	if bad != nil {
		e.State, e.Reason = Invalid, bad.Error()
	}
}

func (e *Event) decodeData(ce *cloudevents.Event) *InvalidError {
	media, _, _ := mime.ParseMediaType(ce.DataContentType())
	text := ce.Data()
	switch {
	case len(text) == 0:
		return nil
	case media != "" && media != "application/json" && media != "text/json" && !strings.HasSuffix(media, "+json"):
		return invalid("data", "is %s; only JSON is understood", media)
	}
	// Harbor's are known by their type, whatever they call themselves.
	if strings.HasPrefix(e.Type, "harbor.") {
		return e.fromHarbor(text)
	}
	if err := json.Unmarshal(text, &e.Data); err != nil {
		return invalid("data", "%v", jsonError(err))
	}
	return nil
}

// jsonError words what encoding/json says without Go's names.
func jsonError(err error) string {
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		return fmt.Sprintf("%s can't be a %s", typ.Field, typ.Value)
	}
	return err.Error()
}

// envelopeError names the first attribute that is wrong.
func envelopeError(err error) error {
	var fields cloudevents.ValidationError
	if !errors.As(err, &fields) || len(fields) == 0 {
		return invalid("", "%v", err)
	}
	var names []string
	for name := range fields {
		names = append(names, name)
	}
	name := slices.Min(names)
	return invalid(name, "%s", strings.TrimSpace(fields[name].Error()))
}

// Marshal is e as CloudEvents in JSON, structured, for who sends it: Source,
// Name, Type, Subject, Time and Data.
func (e *Event) Marshal() ([]byte, error) {
	ce := cloudevents.New()
	ce.SetSource(e.Source)
	ce.SetID(e.Name)
	ce.SetType(e.Type)
	if e.Subject != "" {
		ce.SetSubject(e.Subject)
	}
	if !e.Time.IsZero() {
		ce.SetTime(e.Time)
	}
	if err := ce.SetData("application/json", e.Data); err != nil {
		return nil, fmt.Errorf("event %s: %w", e.Name, err)
	}
	if err := ce.Validate(); err != nil {
		return nil, fmt.Errorf("event %s: %w", e.Name, err)
	}
	return ce.MarshalJSON()
}

// Unreadable makes an event of a message that isn't one, because of err, so
// that it can be seen. The same message from the same sender is the same one.
func Unreadable(by string, m Message, err error) Event {
	sum := sha256.Sum256(m.Body)
	ce := cloudevents.New()
	ce.SetSource("/unreadable/" + by)
	ce.SetID(hex.EncodeToString(sum[:]))
	ce.SetType("unreadable")
	ce.SetDataContentType("application/octet-stream")
	ce.DataEncoded, ce.DataBase64 = m.Body[:min(len(m.Body), MaxEvent/2)], true
	e := Event{Source: ce.Source(), Name: ce.ID(), Type: ce.Type(), State: Invalid, Reason: err.Error()}
	if e.Body, err = ce.MarshalJSON(); err != nil {
		e.Body = []byte("{}")
	}
	return e
}
