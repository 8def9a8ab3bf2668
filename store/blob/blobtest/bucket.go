// Package blobtest is a server of object storage for tests.
package blobtest

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// Server is a server in this process that speaks S3 and holds one bucket.
type Server struct {
	// URL is for blob.OpenBucket.
	URL string
	// Clock is what the objects' times are by. It stands still.
	Clock gofakes3.TimeSourceAdvancer
	// Before is called with each request; nil: it isn't. It is set before the first.
	Before func(r *http.Request)

	t       testing.TB
	backend *s3mem.Backend
}

const name = "results"

// Start starts a server, and puts credentials for it into the environment.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, Clock: gofakes3.FixedTimeSource(time.Now())}
	s.backend = s3mem.New(s3mem.WithTimeSource(s.Clock))
	if err := s.backend.CreateBucket(name); err != nil {
		t.Fatal(err)
	}
	storage := gofakes3.New(s.backend, gofakes3.WithTimeSource(s.Clock), gofakes3.WithTimeSkewLimit(0)).Server()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.Before != nil {
			s.Before(r)
		}
		storage.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "reeve")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	s.URL = "s3://" + name + "?region=eu-west-1&use_path_style=true&prefix=hub/&endpoint=" + srv.URL
	return s
}

// Keys lists the objects.
func (s *Server) Keys() []string {
	s.t.Helper()
	list, err := s.backend.ListBucket(name, nil, gofakes3.ListBucketPage{})
	if err != nil {
		s.t.Fatal(err)
	}
	var keys []string
	for _, c := range list.Contents {
		keys = append(keys, c.Key)
	}
	return keys
}
