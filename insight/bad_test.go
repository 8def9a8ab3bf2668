package insight_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/link"
	"reeve.dev/reeve/insight/transform"
	"reeve.dev/reeve/insight/vex"
)

// Names that are one once they are stored don't stand in each other's way.
func TestService_namesThatAreStoredAsOne(t *testing.T) {
	svc, db := open(t, t.TempDir(), insight.Limits{})
	for id, message := range []string{
		`{"type":"direct.facts","environment":3,"facts":[{"name":"a\u0000","value":"1"},{"name":"a\ufffd","value":"2"}]}`,
		`{"type":"direct.problems","environment":3,"problems":[{"identifier":"a\u0000"},{"identifier":"a\ufffd"}]}`,
	} {
		reason, err := link.Receive(t.Context(), svc, link.Message{Cluster: "edge", ID: insight.ItemID(fmt.Sprint(id)), Body: []byte(message)})
		if err != nil || reason != "" {
			t.Fatalf("%s: %q, %v", message, reason, err)
		}
	}
	facts, err := db.Facts(t.Context(), insight.Query{})
	if err != nil || len(facts) != 1 || facts[0].Name != "a\uFFFD" || facts[0].Value != "2" {
		t.Errorf("facts: %+v, %v", facts, err)
	}
	problems, err := db.Problems(t.Context(), insight.Query{})
	if err != nil || len(problems) != 1 || problems[0].Identifier != "a\uFFFD" {
		t.Errorf("problems: %+v, %v", problems, err)
	}
}

// What is wrong with a message is kept with the reason, and disturbs nothing
// else: neither what was there, nor what comes after it.
func TestService_badInput(t *testing.T) {
	svc, db := open(t, t.TempDir(), insight.Limits{Document: 1 << 20, Components: 100})
	svc.ReadStatements(vex.Parse)
	svc.DeriveFacts(transform.Default().Of)
	receive := func(id, message string) string {
		t.Helper()
		reason, err := link.Receive(t.Context(), svc, link.Message{Cluster: "edge", ID: insight.ItemID(id), Namespace: "shop", Body: []byte(message)})
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		return reason
	}
	document := func(typ string, data []byte) string {
		m, err := json.Marshal(map[string]any{
			"type": typ, "namespace": "shop", "project": "shop", "environment": "main", "service": "web", "binaryPayload": map[string][]byte{"d": data},
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(m)
	}
	const (
		goodBOM  = `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"type":"library","name":"rails","version":"7.1"}]}`
		goodFact = `{"type":"direct.facts","environment":3,"projectName":"shop","environmentName":"main","facts":[{"name":"php","value":"8"}]}`
		goodProb = `{"type":"direct.problems","environment":3,"projectName":"shop","environmentName":"main","problems":[{"identifier":"CVE-1"}]}`
	)
	for i, good := range []string{goodFact, goodProb, document("sbom", zip(t, goodBOM))} {
		if reason := receive(fmt.Sprint("good-", i), good); reason != "" {
			t.Fatalf("%s: %s", good, reason)
		}
	}
	zipped := zip(t, goodBOM)
	damaged := bytes.Clone(zipped)
	damaged[len(damaged)/2] ^= 0xff
	bom := func(text string) string { return document("sbom", zip(t, text)) }

	rows := map[string][2]string{ // by what is wrong: the message, and the reason
		"nothing":                    {``, "the message: isn't JSON"},
		"no object":                  {`[]`, "the message: is an array"},
		"another type":               {`{"type":"direct.cheese"}`, `type: is "direct.cheese"`},
		"a type of another kind":     {`{"type":7}`, "type: is a number, must be a string"},
		"wrong labels":               {`{"labels":{"lagoon.sh/insightsType":"sbom-zst"},"namespace":"shop","service":"web","payload":{"a":"{}"}}`, `label lagoon.sh/insightsType is "sbom-zst"`},
		"labels that are none":       {`{"labels":["sbom-gz"]}`, "labels: is an array, must be an object"},
		"a number for a name":        {strings.Replace(goodFact, `"php"`, `7`, 1), "facts[0].name: is a number, must be a string"},
		"a number for a value":       {strings.Replace(goodFact, `"8"`, `8`, 1), "facts[0].value: is a number, must be a string"},
		"a fact without a name":      {strings.Replace(goodFact, `"php"`, `""`, 1), "facts[0].name: is missing"},
		"facts that are no list":     {strings.Replace(goodFact, `[{"name":"php","value":"8"}]`, `{}`, 1), "facts: is an object, must be an array"},
		"a text for an environment":  {strings.Replace(goodFact, `3`, `"main"`, 1), `environment: is "main", must be an integer`},
		"no environment":             {strings.Replace(goodFact, `3`, `0`, 1), "environment id 0: must be above 0"},
		"an environment below 0":     {strings.Replace(goodProb, `3`, `-3`, 1), "environment id -3: must be above 0"},
		"an environment beyond all":  {strings.Replace(goodProb, `3`, `99999999999999999999`, 1), "must be an integer"},
		"a text for a score":         {strings.Replace(goodProb, `"CVE-1"`, `"CVE-1","severityScore":"high"`, 1), "problems[0].severityScore: is a string, must be a number"},
		"a problem without a name":   {strings.Replace(goodProb, `"CVE-1"`, `""`, 1), "problems[0].identifier: is missing"},
		"a deletion of nothing":      {`{"type":"direct.delete.facts","environment":3}`, "deletion: source is missing"},
		"a deletion from nowhere":    {`{"type":"direct.delete.problems","source":"s"}`, "environment id 0"},
		"a cut message":              {bom(goodBOM)[:100], "the message: isn't JSON"},
		"no document":                {`{"type":"sbom","namespace":"shop","service":"web"}`, "hold 0 documents"},
		"two documents":              {`{"type":"sbom","namespace":"shop","service":"web","payload":{"a":"1","b":"2"}}`, "hold 2 documents"},
		"no base64":                  {`{"type":"sbom","namespace":"shop","service":"web","binaryPayload":{"a":"%"}}`, "base64"},
		"no service":                 {strings.Replace(bom(goodBOM), `"service":"web"`, `"service":""`, 1), "sbom: service is missing"},
		"not gzip":                   {document("sbom", []byte("\x1f\x8bnot gzip")), "isn't gzip"},
		"damaged gzip":               {document("sbom", damaged), "document"},
		"cut gzip":                   {document("sbom", zipped[:len(zipped)-9]), "damaged gzip"},
		"a gzip bomb":                {document("sbom", bomb(t, 64<<20)), "more than 1048576 bytes when inflated"},
		"a cut SBOM":                 {bom(goodBOM[:len(goodBOM)-20]), "sbom: is cut off"},
		"two SBOMs":                  {bom(goodBOM + goodBOM), "something follows the document's end"},
		"an SBOM of another format":  {bom(`{"bomFormat":"Cheese","specVersion":"1.6"}`), `bomFormat: is "Cheese"`},
		"an SBOM of another version": {bom(`{"bomFormat":"CycloneDX","specVersion":"9"}`), `specVersion: is "9"`},
		"a number in an SBOM":        {bom(strings.Replace(goodBOM, `"7.1"`, `7.1`, 1)), "components[0].version: is a number, must be a string"},
		"a component of no name":     {bom(strings.Replace(goodBOM, `"rails"`, `""`, 1)), "components[0].name: is missing"},
		"components that are none":   {bom(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":{}}`), `components: must begin with '['`},
		"too many components":        {bom(many(101)), "more than 100 components"},
		"XML of another kind":        {bom(`<html/>`), "must be one bom"},
		"cut XML":                    {bom(`<bom xmlns="http://cyclonedx.org/schema/bom/1.5"><components>`), "is cut off"},
		"an image that is none":      {document("inspect", zip(t, `{}`)), "Name, Digest and Os are missing"},
		"a number in an image":       {document("inspect", zip(t, `{"Name":7}`)), "Name: is a number, must be a string"},
		"variables that are none":    {document("inspect", zip(t, `{"Name":"n","Env":{"A":"b"}}`)), "Env: is a object"},
	}
	for name, row := range rows {
		if reason := receive(name, row[0]); !strings.Contains(reason, row[1]) {
			t.Errorf("%s: the reason is %q, want %q", name, reason, row[1])
		}
	}
	found, err := db.Quarantined(t.Context(), insight.Query{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range found {
		if row, known := rows[string(q.Item)]; !known || !strings.Contains(q.Reason, row[1]) {
			t.Errorf("in quarantine: %+v", q)
		}
	}
	if len(found) != len(rows) {
		t.Errorf("%d in quarantine, want %d", len(found), len(rows))
	}

	// All is as it was, and what is good is taken.
	if reason := receive("last", strings.Replace(goodFact, `"8"`, `"9"`, 1)); reason != "" {
		t.Error(reason)
	}
	facts, err := db.Facts(t.Context(), insight.Query{})
	if err != nil {
		t.Fatal(err)
	}
	problems, err := db.Problems(t.Context(), insight.Query{})
	if err != nil {
		t.Fatal(err)
	}
	documents, err := db.InsightDocuments(t.Context(), insight.Query{History: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range facts {
		got = append(got, f.Name+"="+f.Value)
	}
	if fmt.Sprint(got) != "[Ruby on Rails=7.1 php=9]" || len(problems) != 1 || len(documents) != 1 {
		t.Errorf("facts %v, %d problems, %d documents", got, len(problems), len(documents))
	}
}

func many(n int) string {
	var b strings.Builder
	b.WriteString(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[`)
	for i := range n {
		fmt.Fprintf(&b, `{"name":"n","version":"%d"},`, i)
	}
	return strings.TrimSuffix(b.String(), ",") + "]}"
}

func bomb(t *testing.T, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.CopyN(z, spaces{}, int64(size)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
