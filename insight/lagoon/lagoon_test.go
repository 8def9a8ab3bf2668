package lagoon_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/lagoon"
)

const golden = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJFbnZpcm9ubWVudElkIjoiNzc3IiwiRW52aXJvbm1lbnROYW1lIjoiVGVzdCIsIk5hbWVzcGFjZSI6InRlc3ROUyIsIlByb2plY3ROYW1lIjoiVGVzdCJ9.LNhtO6VqE-WJfsOgg4ByH89bg1PnHYlabXEjCuHZ5TE"

var testNS = lagoon.Namespace{Name: "testNS", EnvironmentID: "777", ProjectName: "Test", EnvironmentName: "Test"}

func TestNewToken(t *testing.T) {
	got, err := lagoon.NewToken([]byte("secret"), testNS, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if got != golden {
		t.Errorf("got  %s\nwant %s", got, golden)
	}
}

func TestTokenEnd(t *testing.T) {
	end := time.Unix(1_900_000_000, 0)
	for _, want := range []time.Time{{}, end} {
		token, err := lagoon.NewToken([]byte("secret"), testNS, want)
		if err != nil {
			t.Fatal(err)
		}
		if got := lagoon.TokenEnd(token); !got.Equal(want) {
			t.Errorf("ends %s, want %s", got, want)
		}
		if got, err := lagoon.ParseToken(token, []byte("secret")); err != nil || got != testNS {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if got := lagoon.TokenEnd("nonsense"); !got.IsZero() {
		t.Errorf("nonsense ends %s", got)
	}
}

func TestParseToken(t *testing.T) {
	sign := func(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
		s, err := jwt.NewWithClaims(method, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	whole := func(more jwt.MapClaims) jwt.MapClaims {
		c := jwt.MapClaims{"Namespace": "testNS", "EnvironmentId": "777", "ProjectName": "Test", "EnvironmentName": "Test"}
		for k, v := range more {
			c[k] = v
		}
		return c
	}
	for name, header := range map[string]string{
		"raw":            golden,
		"with Bearer":    "Bearer " + golden,
		"number as id":   sign(jwt.SigningMethodHS256, []byte("secret"), whole(jwt.MapClaims{"EnvironmentId": 777})),
		"not yet ending": sign(jwt.SigningMethodHS256, []byte("secret"), whole(jwt.MapClaims{"exp": 4102444800})),
	} {
		t.Run("takes "+name, func(t *testing.T) {
			got, err := lagoon.ParseToken(header, []byte("new"), []byte("secret"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(testNS, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for name, tc := range map[string]struct{ header, want string }{
		"none":             {"", "there is none"},
		"text":             {"hello", "isn't a JWT"},
		"foreign":          {sign(jwt.SigningMethodHS256, []byte("other"), whole(nil)), "wasn't signed with this agent's secret"},
		"unsigned":         {sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, whole(nil)), "wasn't signed"},
		"another method":   {sign(jwt.SigningMethodHS512, []byte("secret"), whole(nil)), "by HS256"},
		"expired":          {sign(jwt.SigningMethodHS256, []byte("secret"), whole(jwt.MapClaims{"exp": 1})), "has expired"},
		"without a claim":  {sign(jwt.SigningMethodHS256, []byte("secret"), jwt.MapClaims{"Namespace": "testNS"}), "unable to find key"},
		"cut":              {golden[:len(golden)-9], "wasn't signed"},
		"two parts of one": {"Bearer", "isn't a JWT"},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			_, err := lagoon.ParseToken(tc.header, []byte("secret"))
			if !errors.Is(err, lagoon.ErrToken) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want ErrToken with %q", err, tc.want)
			}
			if err != nil && len(tc.header) > 9 && strings.Contains(err.Error(), tc.header[:9]) {
				t.Errorf("the error holds the token: %v", err)
			}
		})
	}
}

func TestMessages_fieldsInOrder(t *testing.T) {
	for name, tc := range map[string]struct {
		message any
		want    string
	}{
		"ConfigMap": {
			lagoon.ConfigMap{BinaryPayload: map[string][]byte{"a.gz": {1, 2}}, Labels: map[string]string{"b": "2", "a": "1"}, Namespace: "ns", Environment: "main", Service: "nginx", Project: "p", Type: "sbom"},
			`{"payload":null,"binaryPayload":{"a.gz":"AQI="},"annotations":null,"labels":{"a":"1","b":"2"},"namespace":"ns","environment":"main","service":"nginx","project":"p","type":"sbom"}`,
		},
		"problem": {
			lagoon.Problems{Environment: 3, Problems: []lagoon.Problem{{Environment: 3, Identifier: "CVE-1"}}, Type: lagoon.TypeProblems},
			`{"environment":3,"projectName":"","environmentName":"","problems":[{"environment":3,"identifier":"CVE-1","data":""}],"type":"direct.problems"}`,
		},
		"fact": {
			lagoon.Facts{Environment: 3, Facts: []lagoon.Fact{{Environment: "3", Name: "a<b"}}, Type: lagoon.TypeFacts},
			`{"environment":3,"projectName":"","environmentName":"","facts":[{"environment":"3","projectName":"","environmentName":"","name":"a\u003cb","value":"","source":"","description":"","type":"","category":"","service":""}],"type":"direct.facts"}`,
		},
		"deletion": {
			lagoon.Deletion{Type: lagoon.TypeDeleteFacts, Environment: 3, Source: "s"},
			`{"type":"direct.delete.facts","environment":3,"source":"s","service":""}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := json.Marshal(tc.message)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConfigMap_Write(t *testing.T) {
	doc := strings.Repeat("any bytes \x00\xff", 10_000)
	m := lagoon.ConfigMap{Labels: map[string]string{"a.gz": "x"}, Namespace: "ns", Type: lagoon.TypeSBOM}
	var got bytes.Buffer
	if err := m.Write(&got, `a".gz`, func(w io.Writer) error {
		_, err := io.Copy(w, iotest.HalfReader(strings.NewReader(doc)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	m.BinaryPayload = map[string][]byte{`a".gz`: []byte(doc)}
	want, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("got  %.100s…\nwant %.100s…", got.Bytes(), want)
	}
}

func TestDecode(t *testing.T) {
	for name, tc := range map[string]struct {
		message string
		want    insight.Item
	}{
		"facts": {
			`{"environment":3,"projectName":"p","environmentName":"main","facts":[{"environment":"3","name":"php","value":"8.0.3","source":"s","service":"cli","type":"TEXT","category":"c","description":"d"},{"name":"x","environment":4}],"type":"direct.facts","source":"whole"}`,
			insight.Item{
				Environment: insight.Environment{ID: 3, Project: "p", Name: "main"},
				Content: insight.Facts{
					{Name: "php", Value: "8.0.3", Source: "s", Service: "cli", Type: "TEXT", Category: "c", Description: "d"},
					{Name: "x", Source: "whole"},
				},
			},
		},
		"problems, the environment as text": {
			`{"environment":"3","problems":[{"identifier":"CVE-1","severityScore":0.1,"data":"d"}],"type":"direct.problems"}`,
			insight.Item{
				Environment: insight.Environment{ID: 3},
				Content:     insight.Problems{{Identifier: "CVE-1", SeverityScore: 0.1, Data: "d", Source: lagoon.DefaultSource}},
			},
		},
		"deletion": {
			`{"environment":3,"type":"direct.delete.problems","source":"insights:facts:cli","service":""}`,
			insight.Item{
				Environment: insight.Environment{ID: 3},
				Content:     insight.Deletion{Of: insight.KindProblems, Source: "insights:facts:cli"},
			},
		},
		"SBOM of an older producer, all in the labels": {
			`{"payload":null,"binaryPayload":{"a":"AQI="},"annotations":null,"labels":{"lagoon.sh/buildName":"b1","lagoon.sh/environment":"main","lagoon.sh/insightsType":"sbom-gz","lagoon.sh/project":"p","lagoon.sh/service":"nginx"}}`,
			insight.Item{
				Environment: insight.Environment{Project: "p", Name: "main"},
				Content:     insight.Document{Kind: insight.KindSBOM, Service: "nginx", Build: "b1", Data: []byte{1, 2}},
			},
		},
		"image inspect as text": {
			`{"payload":{"a":"{\"Os\":\"linux\"}"},"namespace":"ns","service":"nginx","type":"inspect"}`,
			insight.Item{
				Environment: insight.Environment{Namespace: "ns"},
				Content:     insight.Document{Kind: insight.KindImage, Service: "nginx", Data: []byte(`{"Os":"linux"}`)},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := lagoon.Decode([]byte(tc.message))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecode_invalid(t *testing.T) {
	for name, tc := range map[string]struct{ message, want string }{
		"not JSON":                 {`hello`, "the message: isn't JSON"},
		"cut":                      {`{"type":"direct.facts","facts":[{"na`, "the message: isn't JSON"},
		"a list":                   {`[]`, "the message: is an array, must be an object"},
		"unknown type":             {`{"type":"cheese"}`, `type: is "cheese"`},
		"number for a fact's text": {`{"type":"direct.facts","environment":3,"facts":[{"name":"a"},{"name":"b","value":7}]}`, "facts[1].value: is a number, must be a string"},
		"fact without a name":      {`{"type":"direct.facts","environment":3,"facts":[{"value":"7"}]}`, "facts[0].name: is missing"},
		"a fact that is none":      {`{"type":"direct.facts","environment":3,"facts":["x"]}`, "facts[0]: is a string, must be an object"},
		"text for a score":         {`{"type":"direct.problems","environment":3,"problems":[{"identifier":"x","severityScore":"high"}]}`, "problems[0].severityScore: is a string, must be a number"},
		"environment":              {`{"type":"direct.facts","environment":"main","facts":[]}`, `environment: is "main", must be an integer`},
		"no document":              {`{"type":"sbom"}`, "hold 0 documents"},
		"two documents":            {`{"type":"sbom","payload":{"a":"1","b":"2"}}`, "hold 2 documents"},
		"not base64":               {`{"type":"sbom","binaryPayload":{"a":"%%%"}}`, "base64"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := lagoon.Decode([]byte(tc.message))
			var invalid *insight.InvalidError
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an InvalidError with %q", err, tc.want)
			}
		})
	}
}

// Messages that Lagoon's own tests use.
// A message of a great many facts that are none isn't given room for them all.
func TestDecode_tooMany(t *testing.T) {
	for _, kind := range []string{"facts", "problems"} {
		text := `{"type":"direct.` + kind + `","environment":1,"` + kind + `":[` + strings.Repeat("{},", 8<<20) + `{}]}`
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := lagoon.Decode([]byte(text))
		runtime.ReadMemStats(&after)
		var invalid *insight.InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), "more than 100000") {
			t.Errorf("%s: %v", kind, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 4*uint64(len(text)) {
			t.Errorf("%s: %d bytes were allocated for %d", kind, n, len(text))
		}
	}
}

func TestDecode_ofLagoon(t *testing.T) {
	for file, want := range map[string]any{
		"compressed.json":            insight.Document{},
		"testSbom.gz.json":           insight.Document{},
		"testImageInspect.gz.json":   insight.Document{},
		"directFactsPayload.json":    insight.Facts{},
		"directProblemsPayload.json": insight.Problems{},
		"deleteProblems.json":        insight.Deletion{},
	} {
		t.Run(file, func(t *testing.T) {
			message, err := os.ReadFile(filepath.Join("../../../shared/data/lagoon", file))
			if err != nil {
				t.Skipf("needs the test documents in ../shared/data beside the checkout: %v", err)
			}
			got, err := lagoon.Decode(message)
			if err != nil {
				t.Fatal(err)
			}
			if g, w := typeName(got.Content), typeName(want); g != w {
				t.Errorf("decoded as %s, want %s", g, w)
			}
		})
	}
}

func typeName(v any) string {
	switch v.(type) {
	case insight.Document:
		return "document"
	case insight.Facts:
		return "facts"
	case insight.Problems:
		return "problems"
	case insight.Deletion:
		return "deletion"
	}
	return "?"
}

func TestTypeOf(t *testing.T) {
	for name, tc := range map[string]struct {
		labels map[string]string
		want   string
	}{
		"inferred":                {map[string]string{lagoon.LabelInsightsType: "sbom-gz"}, "sbom"},
		"image":                   {map[string]string{lagoon.LabelInsightsType: "image-gz"}, "inspect"},
		"explicit wins":           {map[string]string{lagoon.LabelInsightsType: "sbom-gz", lagoon.LabelType: "inspect"}, "inspect"},
		"explicit, not one of us": {map[string]string{lagoon.LabelInsightsType: "sbom-gz", lagoon.LabelType: "direct"}, ""},
		"unknown":                 {map[string]string{lagoon.LabelInsightsType: "raw"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lagoon.TypeOf(tc.labels); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"type":"direct.facts","environment":3,"facts":[{"name":"a","value":"b"}]}`))
	f.Add([]byte(`{"type":"sbom","binaryPayload":{"a":"AQI="}}`))
	f.Add([]byte(`{"type":"direct.delete.facts","environment":"3"}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		_, err := lagoon.Decode(message)
		var invalid *insight.InvalidError
		if err != nil && !errors.As(err, &invalid) {
			t.Errorf("error isn't an InvalidError: %v", err)
		}
	})
}
