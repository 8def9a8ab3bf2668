package ingest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strconv"

	"reeve.dev/reeve/insight/lagoon"
)

// sboms takes a CycloneDX document, plain or gzipped, for the service that the
// query names. The message is the one that a labelled ConfigMap makes.
func (h *handler) sboms(r *http.Request, ns lagoon.Namespace) (any, error) {
	service := r.URL.Query().Get("service")
	if service == "" {
		return nil, &answer{http.StatusBadRequest, "Unable to parse incoming data", "say which service the SBOM is of: POST /sboms?service=NAME"}
	}
	document, err := gzipped(r.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &answer{http.StatusRequestEntityTooLarge, "Unable to parse incoming data",
			"the body has more than the " + strconv.FormatInt(large.Limit, 10) + " bytes allowed; send it gzipped"}
	case err != nil:
		return nil, unparsable(err)
	case len(document) == 0:
		return nil, unparsable(errors.New("the body is empty; send a CycloneDX document in JSON, plain or gzipped"))
	}
	return lagoon.ConfigMap{
		BinaryPayload: map[string][]byte{service + ".cyclonedx.json.gz": document},
		Labels: map[string]string{
			lagoon.LabelInsightsType: "sbom-gz", lagoon.LabelService: service,
			lagoon.LabelProject: ns.ProjectName, lagoon.LabelEnvironment: ns.EnvironmentName, lagoon.LabelEnvironmentID: ns.EnvironmentID,
		},
		Namespace: ns.Name, Environment: ns.EnvironmentName, Project: ns.ProjectName, Service: service,
		Type: lagoon.TypeSBOM,
	}, nil
}

// gzipped reads body and compresses it unless it is compressed already.
func gzipped(body io.Reader) ([]byte, error) {
	buffered := bufio.NewReader(body)
	magic, err := buffered.Peek(2)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return io.ReadAll(buffered)
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := io.Copy(w, buffered); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
