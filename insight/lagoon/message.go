package lagoon

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"reeve.dev/reeve/insight"
)

// The labels and annotations of ConfigMaps, namespaces and Secrets.
const (
	LabelInsightsType   = "lagoon.sh/insightsType"          // triggers: sbom-gz or image-gz
	LabelType           = "insights.lagoon.sh/type"         // sbom or inspect; wins over LabelInsightsType
	LabelWriteDeferred  = "lagoon.sh/insightsWriteDeferred" // Unix seconds until which nothing is tried
	LabelMaxRetry       = "insights.lagoon.sh/max-retry-exceeded"
	AnnotationProcessed = "lagoon.sh/insightsProcessed" // RFC 3339, when it was taken
	AnnotationRetries   = "insights.lagoon.sh/retries"

	AnnotationCoreEnabled = "core.insights.lagoon.sh/enabled" // "true": send it to Lagoon core
	AnnotationCoreStatus  = "core.insights.lagoon.sh/status"  // success or failure
	AnnotationCoreError   = AnnotationCoreStatus + "-error"

	LabelProject       = "lagoon.sh/project"
	LabelEnvironment   = "lagoon.sh/environment"
	LabelEnvironmentID = "lagoon.sh/environmentId"
	LabelService       = "lagoon.sh/service"
	LabelBuildName     = "lagoon.sh/buildName"

	LabelToken         = "lagoon.sh/insights-token"
	LabelDynamicSecret = "lagoon.sh/dynamic-secret"
	TokenSecret        = "insights-token"
	TokenKey           = "INSIGHTS_TOKEN"
)

// MaxRetryExceeded is what LabelMaxRetry says.
const MaxRetryExceeded = "MAX_RETRY_EXCEEDED"

// The types of messages.
const (
	TypeFacts          = "direct.facts"
	TypeProblems       = "direct.problems"
	TypeDeleteFacts    = "direct.delete.facts"
	TypeDeleteProblems = "direct.delete.problems"
	TypeSBOM           = "sbom"
	TypeInspect        = "inspect"
)

// SpoolHub is the kind under which agents spool the messages that go to the
// hub alone; the others (insight.SpoolKind) go to Lagoon's broker, too.
const SpoolHub = "insight-hub"

// SpoolDirect is the kind under which an agent spools what a namespace's
// workloads told it: the hub learns the namespace, of which the message, being
// Lagoon's, says nothing. What can't be a namespace's name is left out.
func SpoolDirect(namespace string) string {
	if !namespaceName.MatchString(namespace) {
		return insight.SpoolKind
	}
	return insight.SpoolKind + "@" + namespace
}

// namespaceName is what fits into a header, too.
var namespaceName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`)

// SpooledNamespace is the namespace of a kind that SpoolDirect made, and empty
// for others.
func SpooledNamespace(kind string) string {
	before, namespace, _ := strings.Cut(kind, "@")
	if before != insight.SpoolKind {
		return ""
	}
	return namespace
}

// DefaultSource is the source of facts and problems that name none.
const DefaultSource = "InsightsRemoteWebService"

// Fact is one fact in a message.
type Fact struct {
	Environment     string `json:"environment"`
	ProjectName     string `json:"projectName"`
	EnvironmentName string `json:"environmentName"`
	Name            string `json:"name"`
	Value           string `json:"value"`
	Source          string `json:"source"`
	Description     string `json:"description"`
	Type            string `json:"type"`
	Category        string `json:"category"`
	Service         string `json:"service"`
}

// Facts is a message of facts.
type Facts struct {
	Environment     int    `json:"environment"`
	ProjectName     string `json:"projectName"`
	EnvironmentName string `json:"environmentName"`
	Facts           []Fact `json:"facts"`
	Type            string `json:"type"`
}

// Problem is one problem in a message.
type Problem struct {
	Environment       int     `json:"environment"`
	Identifier        string  `json:"identifier"`
	Version           string  `json:"version,omitempty"`
	FixedVersion      string  `json:"fixedVersion,omitempty"`
	Source            string  `json:"source,omitempty"`
	Service           string  `json:"service,omitempty"`
	Data              string  `json:"data"`
	Severity          string  `json:"severity,omitempty"`
	SeverityScore     float64 `json:"severityScore,omitempty"`
	AssociatedPackage string  `json:"associatedPackage,omitempty"`
	Description       string  `json:"description,omitempty"`
	Links             string  `json:"links,omitempty"`
}

// Problems is a message of problems.
type Problems struct {
	Environment     int       `json:"environment"`
	ProjectName     string    `json:"projectName"`
	EnvironmentName string    `json:"environmentName"`
	Problems        []Problem `json:"problems"`
	Type            string    `json:"type"`
}

// Deletion is a message that clears a source.
type Deletion struct {
	Type        string `json:"type"`
	Environment int    `json:"environment"`
	Source      string `json:"source"`
	Service     string `json:"service"`
}

// ConfigMap is the message made of a labelled ConfigMap.
type ConfigMap struct {
	Payload       map[string]string `json:"payload"`
	BinaryPayload map[string][]byte `json:"binaryPayload"`
	Annotations   map[string]string `json:"annotations"`
	Labels        map[string]string `json:"labels"`
	Namespace     string            `json:"namespace"`
	Environment   string            `json:"environment"`
	Service       string            `json:"service"`
	Project       string            `json:"project"`
	Type          string            `json:"type"`
}

// Write writes the message with one document, named name, that doc writes, in
// constant memory. m's own payloads must be nil.
func (m ConfigMap) Write(w io.Writer, name string, doc func(io.Writer) error) error {
	m.BinaryPayload = map[string][]byte{name: {}}
	whole, err := json.Marshal(m)
	if err != nil {
		return err
	}
	quoted, err := json.Marshal(name)
	if err != nil {
		return err
	}
	before, after, found := bytes.Cut(whole, append(quoted, `:"`...))
	if !found {
		return errors.New("the message has no place for its document")
	}
	if _, err := fmt.Fprintf(w, `%s%s:"`, before, quoted); err != nil {
		return err
	}
	enc := base64.NewEncoder(base64.StdEncoding, w)
	if err := doc(enc); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	_, err = w.Write(after)
	return err
}

// TypeOf says what a ConfigMap with these labels holds: TypeSBOM,
// TypeInspect, or "" for what isn't for us.
func TypeOf(labels map[string]string) string {
	switch t := labels[LabelType]; t {
	case TypeSBOM, TypeInspect:
		return t
	case "":
	default:
		return ""
	}
	switch labels[LabelInsightsType] {
	case "sbom-gz":
		return TypeSBOM
	case "image-gz":
		return TypeInspect
	}
	return ""
}

// Decode reads any of the messages. What isn't one is an
// *insight.InvalidError. The item has no id and no cluster yet.
func Decode(message []byte) (insight.Item, error) {
	var head struct {
		Type string `json:"type"`
	}
	if err := unmarshal(message, &head); err != nil {
		return insight.Item{}, err
	}
	switch head.Type {
	case TypeFacts:
		return decodeFacts(message)
	case TypeProblems:
		return decodeProblems(message)
	case TypeDeleteFacts:
		return decodeDeletion(message, insight.KindFacts)
	case TypeDeleteProblems:
		return decodeDeletion(message, insight.KindProblems)
	}
	return decodeConfigMap(message)
}

// number is an integer that may be written as a string.
type number int64

func (n *number) UnmarshalJSON(b []byte) error {
	i, err := strconv.ParseInt(string(bytes.Trim(b, `"`)), 10, 64)
	if err != nil {
		return insight.Invalidf("environment: is %.40s, must be an integer", b)
	}
	*n = number(i)
	return nil
}

func decodeFacts(message []byte) (insight.Item, error) {
	var m struct {
		Environment     number `json:"environment"`
		ProjectName     string `json:"projectName"`
		EnvironmentName string `json:"environmentName"`
		Facts           List   `json:"facts"`
		Source          string `json:"source"`
	}
	if err := unmarshal(message, &m); err != nil {
		return insight.Item{}, err
	}
	read, err := ReadFacts(m.Facts)
	if err != nil {
		return insight.Item{}, err
	}
	facts := make(insight.Facts, len(read))
	for i, f := range read {
		facts[i] = insight.Fact{
			Name: f.Name, Value: f.Value, Source: or(f.Source, m.Source, DefaultSource), Service: f.Service,
			Description: f.Description, Type: f.Type, Category: f.Category,
		}
	}
	env := insight.Environment{ID: int64(m.Environment), Project: m.ProjectName, Name: m.EnvironmentName}
	return insight.Item{Environment: env, Content: facts}, nil
}

func decodeProblems(message []byte) (insight.Item, error) {
	var m struct {
		Environment     number `json:"environment"`
		ProjectName     string `json:"projectName"`
		EnvironmentName string `json:"environmentName"`
		Problems        List   `json:"problems"`
		Source          string `json:"source"`
	}
	if err := unmarshal(message, &m); err != nil {
		return insight.Item{}, err
	}
	read, err := ReadProblems(m.Problems)
	if err != nil {
		return insight.Item{}, err
	}
	problems := make(insight.Problems, len(read))
	for i, p := range read {
		problems[i] = insight.Problem{
			Identifier: p.Identifier, Version: p.Version, FixedVersion: p.FixedVersion,
			Source: or(p.Source, m.Source, DefaultSource), Service: p.Service,
			Severity: p.Severity, SeverityScore: p.SeverityScore, AssociatedPackage: p.AssociatedPackage,
			Description: p.Description, Links: p.Links, Data: p.Data,
		}
	}
	env := insight.Environment{ID: int64(m.Environment), Project: m.ProjectName, Name: m.EnvironmentName}
	return insight.Item{Environment: env, Content: problems}, nil
}

func decodeDeletion(message []byte, of insight.Kind) (insight.Item, error) {
	var m struct {
		Environment number `json:"environment"`
		Source      string `json:"source"`
		Service     string `json:"service"`
	}
	if err := unmarshal(message, &m); err != nil {
		return insight.Item{}, err
	}
	return insight.Item{
		Environment: insight.Environment{ID: int64(m.Environment)},
		Content:     insight.Deletion{Of: of, Source: m.Source, Service: m.Service},
	}, nil
}

func decodeConfigMap(message []byte) (insight.Item, error) {
	var m ConfigMap
	if err := unmarshal(message, &m); err != nil {
		return insight.Item{}, err
	}
	kind, ok := map[string]insight.Kind{TypeSBOM: insight.KindSBOM, TypeInspect: insight.KindImage}[or(m.Type, TypeOf(m.Labels))]
	if !ok {
		return insight.Item{}, insight.Invalidf("type: is %q, and label %s is %q: must be one of %s, %s, %s, %s, %s, %s",
			m.Type, LabelInsightsType, m.Labels[LabelInsightsType],
			TypeFacts, TypeProblems, TypeDeleteFacts, TypeDeleteProblems, TypeSBOM, TypeInspect)
	}
	data, err := m.document()
	if err != nil {
		return insight.Item{}, err
	}
	env := insight.Environment{Namespace: m.Namespace, Project: m.Project, Name: m.Environment}
	// The ConfigMap's own labels are its author's, and so nothing to know a
	// namespace's environment by.
	if env == (insight.Environment{}) {
		env.Project, env.Name = m.Labels[LabelProject], m.Labels[LabelEnvironment]
	}
	return insight.Item{
		Environment: env,
		Content: insight.Document{
			Kind:    kind,
			Service: or(m.Service, m.Labels[LabelService]),
			Build:   m.Labels[LabelBuildName],
			Data:    data,
		},
	}, nil
}

// document gives the one document of a ConfigMap, from wherever it lies. A
// text that is base64 is what an older producer wrote into data.
func (m ConfigMap) document() ([]byte, error) {
	var found [][]byte
	for _, k := range slices.Sorted(maps.Keys(m.BinaryPayload)) {
		found = append(found, m.BinaryPayload[k])
	}
	for _, k := range slices.Sorted(maps.Keys(m.Payload)) {
		text := []byte(m.Payload[k])
		if plain, err := base64.StdEncoding.DecodeString(m.Payload[k]); err == nil {
			text = plain
		}
		found = append(found, text)
	}
	if len(found) != 1 {
		return nil, insight.Invalidf("payload and binaryPayload: hold %d documents, must hold one", len(found))
	}
	return found[0], nil
}

// MaxList is how many facts, or problems, one message may have. Each takes a hundred
// times the memory of the least bytes that it may be written in.
const MaxList = 100_000

// List is a list of values, of which none is looked at yet.
type List []json.RawMessage

// UnmarshalJSON implements json.Unmarshaler. More values than MaxList are an
// *insight.InvalidError.
func (l *List) UnmarshalJSON(text []byte) error {
	*l = nil
	if string(text) == "null" {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if start, err := dec.Token(); err != nil || start != json.Delim('[') {
		return json.Unmarshal(text, (*[]json.RawMessage)(l)) // which has the words
	}
	*l = List{}
	for dec.More() {
		if len(*l) == MaxList {
			return insight.Invalidf("there are more than %d values in one list: send them in several messages, of a source each", MaxList)
		}
		var one json.RawMessage
		if err := dec.Decode(&one); err != nil {
			return err
		}
		*l = append(*l, one)
	}
	return nil
}

// ReadFacts decodes facts one by one, so that an *insight.InvalidError names
// the one that is wrong and its field. Members that a sender has no say in
// (environment, projectName, environmentName) are left empty.
func ReadFacts(raw List) ([]Fact, error) {
	return readList(raw, "facts", func(r json.RawMessage) (Fact, error) {
		var f struct { // Fact with other tags
			Environment     string `json:"-"`
			ProjectName     string `json:"-"`
			EnvironmentName string `json:"-"`
			Name            string `json:"name"`
			Value           string `json:"value"`
			Source          string `json:"source"`
			Description     string `json:"description"`
			Type            string `json:"type"`
			Category        string `json:"category"`
			Service         string `json:"service"`
		}
		if err := json.Unmarshal(r, &f); err != nil {
			return Fact{}, err
		}
		if f.Name == "" {
			return Fact{}, errMissing("name")
		}
		return Fact(f), nil
	})
}

// ReadProblems is ReadFacts for problems.
func ReadProblems(raw List) ([]Problem, error) {
	return readList(raw, "problems", func(r json.RawMessage) (Problem, error) {
		var p struct { // Problem with other tags
			Environment       int     `json:"-"`
			Identifier        string  `json:"identifier"`
			Version           string  `json:"version"`
			FixedVersion      string  `json:"fixedVersion"`
			Source            string  `json:"source"`
			Service           string  `json:"service"`
			Data              string  `json:"data"`
			Severity          string  `json:"severity"`
			SeverityScore     float64 `json:"severityScore"`
			AssociatedPackage string  `json:"associatedPackage"`
			Description       string  `json:"description"`
			Links             string  `json:"links"`
		}
		if err := json.Unmarshal(r, &p); err != nil {
			return Problem{}, err
		}
		if p.Identifier == "" {
			return Problem{}, errMissing("identifier")
		}
		return Problem(p), nil
	})
}

func readList[T any](raw List, name string, read func(json.RawMessage) (T, error)) ([]T, error) {
	if raw == nil {
		return nil, nil
	}
	list := make([]T, len(raw))
	for i, r := range raw {
		var err error
		if list[i], err = read(r); err != nil {
			return nil, Invalid(name+"["+strconv.Itoa(i)+"]", err)
		}
	}
	return list, nil
}

func unmarshal(message []byte, v any) error {
	if err := json.Unmarshal(message, v); err != nil {
		return Invalid("", err)
	}
	return nil
}

// errMissing names a member that must be there.
type errMissing string

func (e errMissing) Error() string { return string(e) + ": is missing" }

// Invalid says in people's words what encoding/json found wrong with a text;
// at names its place in the message, and is empty for the whole.
func Invalid(at string, err error) error {
	var (
		inv    *insight.InvalidError
		miss   errMissing
		typ    *json.UnmarshalTypeError
		syntax *json.SyntaxError
	)
	switch {
	case errors.As(err, &inv):
		return inv
	case errors.As(err, &miss):
		return insight.Invalidf("%s", join(at, miss.Error()))
	case errors.As(err, &typ):
		if typ.Field != "" {
			at = join(at, typ.Field)
		}
		return insight.Invalidf("%s: is %s, must be %s", or(at, "the message"), jsonName(typ.Value), jsonName(typ.Type.Kind().String()))
	case errors.As(err, &syntax):
		return insight.Invalidf("%s: isn't JSON: %v at byte %d", or(at, "the message"), err, syntax.Offset)
	}
	return insight.Invalidf("%s: %v", or(at, "the message"), err)
}

func join(at, field string) string {
	if at == "" {
		return field
	}
	return at + "." + field
}

// jsonName names Go's kinds, and what encoding/json calls a value, as JSON
// does.
func jsonName(kind string) string {
	kind, _, _ = strings.Cut(kind, " ") // "number 1e99"
	switch kind {
	case "struct", "map", "object":
		return "an object"
	case "slice", "array":
		return "an array"
	case "float64", "int", "int64":
		return "a number"
	}
	return "a " + kind
}

func or(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
