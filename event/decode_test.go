package event_test

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"reeve.dev/reeve/event"
)

const (
	digest   = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	deployed = `{"specversion":"1.0","id":"1","source":"//argo","type":"container.deployed","time":"2026-11-22T05:00:00Z","data":{"agent":"edge","namespace":"shop","pod":"web-1","container":"app","image":"r.example/web:1","imageDigest":"` + digest + `","labels":{"app":"web"}}}`
)

// The three modes of a message say the same.
func TestDecode_modes(t *testing.T) {
	var parts struct{ Data json.RawMessage }
	if err := json.Unmarshal([]byte(deployed), &parts); err != nil {
		t.Fatal(err)
	}
	binary := func(prefix string) event.Message {
		headers := map[string]string{}
		for k, v := range map[string]string{"SpecVersion": "1.0", "id": "1", "source": "//argo", "type": "container.deployed", "time": "2026-11-22T05:00:00Z"} {
			headers[prefix+k] = v
		}
		headers["Accept"] = "*/*"
		return event.Message{ContentType: "application/json; charset=utf-8", Attributes: event.AttributesOf(maps.All(headers)), Body: parts.Data}
	}
	want := event.Event{
		Source: "//argo", Name: "1", Type: event.ContainerDeployed, Time: time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC), State: event.Pending,
		Data: event.Data{Agent: "edge", Namespace: "shop", Pod: "web-1", Container: "app", Image: "r.example/web:1", ImageDigest: digest, Labels: map[string]string{"app": "web"}},
	}
	for name, tc := range map[string]struct {
		m event.Message
		n int
	}{
		"structured":          {event.Message{ContentType: event.StructuredType + "; charset=utf-8", Body: []byte(deployed)}, 1},
		"structured, as JSON": {event.Message{ContentType: "application/json", Body: []byte(deployed)}, 1},
		"batch, as JSON":      {event.Message{ContentType: "application/json", Body: []byte(" [" + deployed + "]")}, 1},
		"batch":               {event.Message{ContentType: event.BatchType, Body: []byte("[" + deployed + "," + deployed + "]")}, 2},
		"binary by HTTP":      {binary("Ce-"), 1},
		"binary by Kafka":     {binary("ce_"), 1},
		"binary by AMQP":      {binary("cloudEvents:"), 1},
	} {
		got, err := event.Decode(tc.m)
		if err != nil || len(got) != tc.n {
			t.Errorf("%s: %d events, %v", name, len(got), err)
			continue
		}
		for _, e := range got {
			if d := cmp.Diff(want, e, cmpopts.IgnoreFields(event.Event{}, "Body")); d != "" {
				t.Errorf("%s (-want +got):\n%s", name, d)
			}
			again, err := event.Decode(event.Message{ContentType: event.StructuredType, Body: e.Body})
			if err != nil || cmp.Diff(e, again[0]) != "" {
				t.Errorf("%s: what is kept isn't the event: %v, %s", name, err, e.Body)
			}
		}
	}
}

// What is wrong with an envelope is said with its attribute.
func TestDecode_refuses(t *testing.T) {
	with := func(old, new string) event.Message {
		return event.Message{ContentType: event.StructuredType, Body: []byte(strings.Replace(deployed, old, new, 1))}
	}
	many := "[" + strings.Repeat(deployed+",", event.MaxEvents) + deployed + "]"
	for name, tc := range map[string]struct {
		m     event.Message
		field string
	}{
		"no JSON":           {event.Message{ContentType: event.StructuredType, Body: []byte("{")}, ""},
		"no event":          {event.Message{ContentType: "application/json", Body: []byte("{}")}, "specversion"},
		"no version":        {with(`"specversion":"1.0",`, ""), ""},
		"an old version":    {with(`"specversion":"1.0"`, `"specversion":"0.3"`), "specversion"},
		"no id":             {with(`"id":"1",`, ""), "id"},
		"no source":         {with(`"source":"//argo",`, ""), "source"},
		"no type":           {with(`"type":"container.deployed",`, ""), "type"},
		"a long id":         {with(`"id":"1"`, `"id":"`+strings.Repeat("1", 2000)+`"`), "id"},
		"a time of its own": {with(`2026-11-22T05:00:00Z`, `today`), ""},
		"another encoding":  {event.Message{ContentType: "application/cloudevents+avro", Body: []byte("{}")}, ""},
		"a batch of one":    {event.Message{ContentType: event.BatchType, Body: []byte(deployed)}, ""},
		"a bad one of two":  {event.Message{ContentType: event.BatchType, Body: []byte("[" + deployed + "," + strings.Replace(deployed, `"id":"1",`, "", 1) + "]")}, "[1].id"},
		"too many":          {event.Message{ContentType: event.BatchType, Body: []byte(many)}, ""},
		"too large":         {with(`"app":"web"`, `"app":"`+strings.Repeat("w", event.MaxEvent)+`"`), ""},
		"binary, bad time":  {event.Message{Attributes: map[string]string{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "time": "now"}}, "time"},
	} {
		got, err := event.Decode(tc.m)
		var bad *event.InvalidError
		if !errors.As(err, &bad) || bad.Field != tc.field {
			t.Errorf("%s: %+v, %v; want an error of the member %q", name, got, err, tc.field)
		}
	}
}

// What is wrong with the data makes an event that can be seen.
func TestDecode_invalidData(t *testing.T) {
	for name, tc := range map[string]struct{ old, new, reason string }{
		"no pod":        {`"pod":"web-1",`, ``, "data.pod: is missing"},
		"no namespace":  {`"namespace":"shop",`, ``, "data.namespace: is missing"},
		"no container":  {`"container":"app",`, ``, "data.container: is missing"},
		"a number":      {`"pod":"web-1"`, `"pod":7`, "data: pod can't be a number"},
		"a bad digest":  {digest, "sha256:7", "data.imageDigest: "},
		"a long image":  {"r.example", strings.Repeat("r", 2000), "data.image: has more"},
		"no image":      {"container.deployed", "image.published", ""},
		"nothing":       {`"container.deployed"`, `"scan.scheduled"`, ""},
		"another type":  {`"type":"container.deployed"`, `"datacontenttype":"application/xml","data_base64":"PGEvPg==","type":"container.deployed","x":"y"}`, "data: is application/xml"},
		"labels a list": {`{"app":"web"}`, `["web"]`, "data: labels can't be a array"},
	} {
		got, err := event.Decode(event.Message{ContentType: event.StructuredType, Body: []byte(whole(strings.Replace(deployed, tc.old, tc.new, 1)))})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		state := event.Invalid
		if tc.reason == "" {
			state = event.Pending
		}
		if got[0].State != state || !strings.HasPrefix(got[0].Reason, tc.reason) {
			t.Errorf("%s: %s, %q; want %s, %q", name, got[0].State, got[0].Reason, state, tc.reason)
		}
	}
}

// whole is the first JSON value of text.
func whole(text string) string {
	var first json.RawMessage
	if json.NewDecoder(strings.NewReader(text)).Decode(&first) != nil {
		return text
	}
	return string(first)
}

func TestMarshal(t *testing.T) {
	e := event.Event{Source: "/agents/edge", Name: "1", Type: event.ContainerDeployed, Data: event.Data{Namespace: "shop", Pod: "web-1", Container: "app"}}
	text, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := event.Decode(event.Message{ContentType: event.StructuredType, Body: text})
	if err != nil || got[0].State != event.Pending || cmp.Diff(e.Data, got[0].Data) != "" {
		t.Errorf("%+v, %v of %s", got, err, text)
	}
	e.Type = ""
	if _, err := e.Marshal(); err == nil {
		t.Error("an event without a type was made")
	}
}

func TestFromRegistry(t *testing.T) {
	push := func(id, action, tag string) string {
		return `{"id":"` + id + `","timestamp":"2026-11-22T05:00:00Z","action":"` + action + `","target":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + digest + `","repository":"shop/web","tag":"` + tag + `"},"request":{"host":"r.example:5000"},"actor":{"name":"ci"}}`
	}
	harbor := `{"type":"PUSH_ARTIFACT","occur_at":1763787600,"operator":"ci","event_data":{"resources":[{"digest":"` + digest + `","tag":"1.2","resource_url":"h.example/shop/web:1.2"}],"repository":{"repo_full_name":"shop/web"}}}`
	cloud := `{"specversion":"1.0","id":"h1","source":"/projects/1/webhook/policies/1","type":"harbor.artifact.pushed","datacontenttype":"application/json","time":"2026-11-22T05:00:00Z","data":` + harbor[strings.Index(harbor, `{"resources"`):len(harbor)-1] + `}`
	for name, tc := range map[string]struct {
		m       event.Message
		images  []string
		skipped int
	}{
		"distribution": {
			event.Message{ContentType: "application/vnd.docker.distribution.events.v2+json", Body: []byte(`{"events":[` + strings.Join([]string{
				push("1", "push", "1.2"), push("2", "pull", "1.2"), push("3", "push", ""), push("4", "push", strings.Replace(digest, ":", "-", 1)+".sig"),
			}, ",") + `]}`)},
			[]string{"r.example:5000/shop/web:1.2"},
			3,
		},
		"Harbor":                {event.Message{ContentType: "application/json", Body: []byte(harbor)}, []string{"h.example/shop/web:1.2"}, 0},
		"Harbor, another event": {event.Message{Body: []byte(strings.Replace(harbor, "PUSH_ARTIFACT", "PULL_ARTIFACT", 1))}, nil, 1},
		"Harbor as CloudEvents": {event.Message{ContentType: event.StructuredType, Body: []byte(cloud)}, []string{"h.example/shop/web:1.2"}, 0},
	} {
		events, skipped, err := event.FromRegistry(tc.m)
		var images []string
		for _, e := range events {
			images = append(images, e.Data.Image)
			if e.Type != event.ImagePublished || e.Data.ImageDigest != digest || e.State != event.Pending || e.Name == "" {
				t.Errorf("%s: %+v", name, e)
			}
		}
		if d := cmp.Diff(tc.images, images); d != "" || skipped != tc.skipped || err != nil {
			t.Errorf("%s: skipped %d, %v (-want +got):\n%s", name, skipped, err, d)
		}
	}
	for name, body := range map[string]string{
		"no JSON":       `<xml/>`,
		"nothing known": `{"hello":"world"}`,
		"no host":       `{"events":[` + strings.Replace(push("1", "push", "1"), "r.example:5000", "", 1) + `]}`,
		"no digest":     `{"events":[` + strings.Replace(push("1", "push", "1"), digest, "", 1) + `]}`,
		"no resources":  strings.Replace(harbor, `"resources":[`, `"none":[`, 1),
	} {
		_, _, err := event.FromRegistry(event.Message{Body: []byte(body)})
		var bad *event.InvalidError
		if !errors.As(err, &bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(event.StructuredType, []byte(deployed))
	f.Add(event.BatchType, []byte("["+deployed+"]"))
	f.Add("application/json", []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"e30="}`))
	f.Add("application/json", []byte(`{"type":"PUSH_ARTIFACT","event_data":{"resources":[{}]}}`))
	f.Fuzz(func(t *testing.T, media string, body []byte) {
		m := event.Message{ContentType: media, Body: body}
		if events, err := event.Decode(m); err == nil {
			for _, e := range events {
				again, err := event.Decode(event.Message{ContentType: event.StructuredType, Body: e.Body})
				if err != nil {
					t.Fatalf("what is kept can't be read: %v: %s", err, e.Body)
				}
				if again[0].Name != e.Name || again[0].Source != e.Source {
					t.Fatalf("kept %+v of %+v", again[0], e)
				}
			}
		}
		event.FromRegistry(m)
		m.Attributes = map[string]string{"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
		events, err := event.Decode(m)
		if err == nil {
			for _, e := range events {
				if !json.Valid(e.Body) {
					t.Fatalf("kept what isn't JSON: %q", e.Body)
				}
			}
		}
	})
}
