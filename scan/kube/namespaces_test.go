package kube

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

func TestWatcher_Annotated(t *testing.T) {
	status, body := http.StatusOK, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{},"items":[
		{"metadata":{"name":"shop","annotations":{"reeve.dev/policies":"p: {}","other":"x"}}},
		{"metadata":{"name":"web","annotations":{"other":"x"}}},{"metadata":{"name":"none"}}]}`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/namespaces" {
			t.Errorf("asked %s", r.URL)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	defer srv.Close()
	w, err := NewWatcher(&rest.Config{Host: srv.URL}, nil, nil, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.Annotated(t.Context(), "reeve.dev/policies")
	if d := cmp.Diff(map[string]string{"shop": "p: {}"}, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	status, body = http.StatusForbidden, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`
	if _, err := w.Annotated(t.Context(), "reeve.dev/policies"); !apierrors.IsForbidden(err) {
		t.Errorf("without the right: %v", err)
	}
}
