package ingest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"net/http"

	"reeve.dev/reeve/insight/lagoon"
)

// document is the maker of the message of an SBOM or image inspect: the one
// that a labelled ConfigMap makes. It is written while the body is read.
func document(typ, insightsType, suffix string) maker {
	return func(r *http.Request, ns lagoon.Namespace) (func(io.Writer) error, error) {
		service := r.URL.Query().Get("service")
		if service == "" {
			return nil, &answer{http.StatusBadRequest, "Unable to parse incoming data", "service: is missing; say which one it is of: POST " + r.URL.Path + "?service=NAME"}
		}
		m := lagoon.ConfigMap{
			Labels: map[string]string{
				lagoon.LabelInsightsType: insightsType, lagoon.LabelService: service,
				lagoon.LabelProject: ns.ProjectName, lagoon.LabelEnvironment: ns.EnvironmentName, lagoon.LabelEnvironmentID: ns.EnvironmentID,
			},
			Namespace: ns.Name, Environment: ns.EnvironmentName, Service: service, Project: ns.ProjectName, Type: typ,
		}
		if build := r.URL.Query().Get("build"); build != "" {
			m.Labels[lagoon.LabelBuildName] = build
		}
		return func(w io.Writer) error {
			return m.Write(w, service+suffix, func(w io.Writer) error { return zip(w, caller{r.Body}) })
		}, nil
	}
}

// zip copies doc as gzip, which it may be already.
func zip(w io.Writer, doc io.Reader) error {
	buf := bufio.NewReader(doc)
	magic, err := buf.Peek(2)
	if err != nil && err != io.EOF {
		return err
	}
	if len(magic) == 0 {
		return &answer{http.StatusBadRequest, "Unable to parse incoming data", "the body is empty"}
	}
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		_, err := io.Copy(w, buf)
		return err
	}
	z := gzip.NewWriter(w)
	if _, err := io.Copy(z, buf); err != nil {
		return err
	}
	return z.Close()
}
