package kube

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

func TestWatcher_list(t *testing.T) {
	const list = `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{},"items":[%s]}`
	answers := map[string]string{
		"/api/v1/namespaces":      `{"metadata":{"name":"shop","annotations":{"reeve.dev/policies":"p: {}","other":"x"}}},{"metadata":{"name":"web","annotations":{"other":"x"}}},{"metadata":{"name":"none"}}`,
		"/apis/batch/v1/cronjobs": `{"metadata":{"namespace":"shop","name":"nightly"}},{"metadata":{"namespace":"web","name":"tidy"}},{"metadata":{"namespace":"shop","name":"hourly"}}`,
	}
	forbidden := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if forbidden {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`)
			return
		}
		fmt.Fprintf(w, list, answers[r.URL.Path])
	}))
	defer srv.Close()
	w, err := NewWatcher(&rest.Config{Host: srv.URL}, nil, nil, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	annotated, err := w.Annotated(t.Context(), "reeve.dev/policies")
	if d := cmp.Diff(map[string]string{"shop": "p: {}"}, annotated); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	cronJobs, err := w.CronJobs(t.Context())
	if d := cmp.Diff(map[string][]string{"shop": {"hourly", "nightly"}, "web": {"tidy"}}, cronJobs); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	forbidden = true
	if _, err := w.Annotated(t.Context(), "reeve.dev/policies"); !apierrors.IsForbidden(err) {
		t.Errorf("annotations without the right: %v", err)
	}
	if _, err := w.CronJobs(t.Context()); !apierrors.IsForbidden(err) {
		t.Errorf("CronJobs without the right: %v", err)
	}
}
