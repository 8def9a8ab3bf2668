package event

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// FromRegistry reads the notifications of a registry as image.published
// events: those of Docker's distribution (which Zot, GitLab and others send
// too), and Harbor's in both of its forms. Skipped counts those about
// something else, such as pulls, layers, and what lies beside an image:
// signatures and the manifests that an index lists. What can't be read is an
// *InvalidError.
func FromRegistry(m Message) (events []Event, skipped int, err error) {
	if len(m.Body) > MaxBatch {
		return nil, 0, invalid("", "the notification has %d bytes; at most %d", len(m.Body), MaxBatch)
	}
	var probe struct {
		SpecVersion string            `json:"specversion"`
		Type        string            `json:"type"`
		Events      []json.RawMessage `json:"events"`
		EventData   json.RawMessage   `json:"event_data"`
	}
	if m.Attributes["specversion"] == "" {
		if err := json.Unmarshal(m.Body, &probe); err != nil {
			return nil, 0, invalid("", "the notification isn't JSON: %v", jsonError(err))
		}
	}
	switch {
	case probe.Events != nil:
		return fromDistribution(probe.Events)
	case probe.EventData != nil:
		return fromHarborHook(probe.Type, m.Body, probe.EventData)
	case probe.SpecVersion != "" || m.Attributes["specversion"] != "":
		events, err := Decode(m)
		return events, 0, err
	}
	return nil, 0, invalid("", "this is no notification that is known: neither of distribution (events) nor of Harbor (type and event_data, or CloudEvents)")
}

// published makes an event of what a registry says. Without a digest or tag
// it's none that can be scanned.
func published(source, id string, at time.Time, d Data) (Event, error) {
	e := Event{Source: source, Name: id, Type: ImagePublished, Subject: d.Image, Time: at, Data: d}
	body, err := e.Marshal()
	if err != nil {
		return Event{}, invalid("", "%v", err)
	}
	e.Body, e.State = body, Pending
	if bad := d.validate(e.Type); bad != nil {
		e.State, e.Reason = Invalid, bad.Error()
	}
	return e, nil
}

// beside are the tags under which tools keep what belongs to an image: cosign's
// signatures, attestations and SBOMs, and referrers where a registry has no
// API for them.
var beside = regexp.MustCompile(`^sha256-[0-9a-f]{64}(\.|$)`)

// distributionEvent is one of https://distribution.github.io/distribution/about/notifications/.
type distributionEvent struct {
	ID        string    `json:"id"`
	Timestamp time.Time `json:"timestamp"`
	Action    string    `json:"action"`
	Target    struct {
		MediaType  string `json:"mediaType"`
		Digest     string `json:"digest"`
		Repository string `json:"repository"`
		URL        string `json:"url"`
		Tag        string `json:"tag"`
	} `json:"target"`
	Request struct {
		Host string `json:"host"`
	} `json:"request"`
}

func fromDistribution(list []json.RawMessage) (events []Event, skipped int, err error) {
	if len(list) > MaxEvents {
		return nil, 0, invalid("events", "has %d; at most %d", len(list), MaxEvents)
	}
	for i, text := range list {
		var n distributionEvent
		if err := json.Unmarshal(text, &n); err != nil {
			return nil, 0, invalid(fmt.Sprintf("events[%d]", i), "%v", jsonError(err))
		}
		t := n.Target
		if n.Action != "push" || t.Tag == "" || beside.MatchString(t.Tag) {
			skipped++
			continue
		}
		host := n.Request.Host
		if u, err := url.Parse(t.URL); err == nil && host == "" {
			host = u.Host
		}
		if n.ID == "" || host == "" || t.Repository == "" || !digest.MatchString(t.Digest) {
			return nil, 0, invalid(fmt.Sprintf("events[%d]", i), "a push has id, request.host or target.url, target.repository and target.digest")
		}
		e, err := published("//"+host, n.ID, n.Timestamp, Data{Image: host + "/" + t.Repository + ":" + t.Tag, ImageDigest: t.Digest})
		if err != nil {
			return nil, 0, err
		}
		events = append(events, e)
	}
	return events, skipped, nil
}

// harborData is the data of Harbor's notifications about artifacts; see
// https://goharbor.io/docs/main/working-with-projects/project-configuration/configure-webhooks/.
type harborData struct {
	Resources []struct {
		Digest      string `json:"digest"`
		Tag         string `json:"tag"`
		ResourceURL string `json:"resource_url"`
	} `json:"resources"`
	Repository struct {
		FullName string `json:"repo_full_name"`
	} `json:"repository"`
}

func fromHarborHook(typ string, body, data json.RawMessage) (events []Event, skipped int, err error) {
	if typ != "PUSH_ARTIFACT" && typ != "REPLICATION" {
		return nil, 1, nil
	}
	var h harborData
	var at struct {
		OccurAt int64 `json:"occur_at"`
	}
	if err := json.Unmarshal(data, &h); err != nil {
		return nil, 0, invalid("event_data", "%v", jsonError(err))
	}
	if err := json.Unmarshal(body, &at); err != nil {
		return nil, 0, invalid("occur_at", "%v", jsonError(err))
	}
	if len(h.Resources) == 0 || len(h.Resources) > MaxEvents {
		return nil, 0, invalid("event_data.resources", "has %d; there must be 1 to %d", len(h.Resources), MaxEvents)
	}
	when := time.Unix(at.OccurAt, 0).UTC()
	for i, r := range h.Resources {
		if beside.MatchString(r.Tag) {
			skipped++
			continue
		}
		if r.ResourceURL == "" || !digest.MatchString(r.Digest) {
			return nil, 0, invalid(fmt.Sprintf("event_data.resources[%d]", i), "resource_url and digest are needed")
		}
		host, _, _ := strings.Cut(r.ResourceURL, "/")
		// Harbor's hooks have no id: the same push is the same event.
		id := fmt.Sprintf("%s@%s/%d", r.ResourceURL, r.Digest, at.OccurAt)
		e, err := published("//"+host, id, when, Data{Image: r.ResourceURL, ImageDigest: r.Digest})
		if err != nil {
			return nil, 0, err
		}
		events = append(events, e)
	}
	return events, skipped, nil
}

// fromHarbor reads what Harbor sends as a CloudEvent, such as
// harbor.artifact.pushed. Of an artifact with several tags the first counts.
func (e *Event) fromHarbor(text []byte) *InvalidError {
	var h harborData
	if err := json.Unmarshal(text, &h); err != nil {
		return invalid("data", "%v", jsonError(err))
	}
	if e.Type != "harbor.artifact.pushed" {
		return nil
	}
	e.Type = ImagePublished
	if len(h.Resources) == 0 {
		return invalid("data.resources", "is empty")
	}
	r := h.Resources[0]
	e.Data = Data{Image: r.ResourceURL, ImageDigest: r.Digest}
	return nil
}
