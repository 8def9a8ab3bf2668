package ingest

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"io"
	"net/http"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/lagoon"
)

// format is a kind of document: what it is called in the message, and what
// finds whether it is one.
type format struct {
	suffix string
	// spool is the kind of its message: what Lagoon's own services can't read
	// goes to the hub alone.
	spool string
	check func(io.Reader) error
}

var (
	cycloneJSON = format{".cyclonedx.json.gz", insight.SpoolKind, checkSBOM}
	cycloneXML  = format{".cyclonedx.xml.gz", lagoon.SpoolHub, checkSBOM}
	spdx        = format{".spdx.json.gz", lagoon.SpoolHub, checkSBOM}
	image       = format{".image-inspect.json.gz", insight.SpoolKind, checkImage}
)

func checkSBOM(r io.Reader) error {
	return insight.CheckSBOM(r, insight.DefaultLimits.Components)
}

// maxImage is the most bytes of an image inspect once it is inflated: it is in
// memory as a whole.
const maxImage = 10 << 20

func checkImage(r io.Reader) error {
	_, err := insight.ParseImageInspect(&inflated{r: r, left: maxImage, limit: maxImage})
	return err
}

// document is the maker of the message of an SBOM or image inspect: the one
// that a labelled ConfigMap makes. It is written, and judged, while the body is
// read.
func (h *handler) document(typ, insightsType string, is func(begin []byte) format) maker {
	return func(r *http.Request, ns lagoon.Namespace) (message, error) {
		service := r.URL.Query().Get("service")
		if service == "" {
			return message{}, &answer{http.StatusBadRequest, "Unable to parse incoming data", "service: is missing; say which one it is of: POST " + r.URL.Path + "?service=NAME"}
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
		body := bufio.NewReaderSize(caller{r.Body}, peek)
		zipped, begin, err := look(body)
		if err != nil {
			return message{}, err
		}
		f := is(begin)
		if f.spool == lagoon.SpoolHub && h.cfg.NoHub {
			return message{}, &answer{http.StatusUnsupportedMediaType, "Unable to parse incoming data", "Lagoon takes SBOMs as CycloneDX in JSON alone, and this agent has no hub: convert it"}
		}
		return message{f.spool, func(w io.Writer) error {
			return m.Write(w, service+f.suffix, func(w io.Writer) error { return zip(w, body, zipped, f.check) })
		}}, nil
	}
}

func images([]byte) format { return image }

// sboms tells the formats by their beginnings. Whether a document is what it
// seems to be the check finds.
func sboms(begin []byte) format {
	switch {
	case bytes.HasPrefix(bytes.TrimLeft(begin, "\xef\xbb\xbf \t\r\n"), []byte("<")):
		return cycloneXML
	case bytes.Contains(begin, []byte(`"spdxVersion"`)), bytes.Contains(begin, []byte(`spdx.org/rdf/3`)):
		return spdx
	}
	return cycloneJSON
}

// peek is how much of a body is looked at before it is passed on.
const peek = 32 << 10

// look finds whether the body is gzip, and how the document begins.
func look(body *bufio.Reader) (zipped bool, begin []byte, err error) {
	begin, err = body.Peek(peek)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, nil, err
	}
	if len(begin) == 0 {
		return false, nil, &answer{http.StatusBadRequest, "Unable to parse incoming data", "the body is empty"}
	}
	if !bytes.HasPrefix(begin, []byte{0x1f, 0x8b}) {
		return false, begin, nil
	}
	plain := make([]byte, peek)
	z, err := gzip.NewReader(bytes.NewReader(begin))
	if err != nil {
		return false, nil, unparsable(errors.New("the document is damaged gzip: " + err.Error()))
	}
	n, _ := io.ReadFull(z, plain) // cut where the peek ends
	return true, plain[:n], nil
}

// zip copies doc as gzip, which it may be already, and has it judged on the
// way.
func zip(w io.Writer, doc io.Reader, zipped bool, check func(io.Reader) error) error {
	limit := insight.DefaultLimits.Document
	if zipped {
		z, err := gzip.NewReader(io.TeeReader(doc, w))
		if err != nil {
			return judged(err)
		}
		return judged(check(&inflated{r: z, left: limit, limit: limit}))
	}
	z := gzip.NewWriter(w)
	if err := judged(check(io.TeeReader(doc, z))); err != nil {
		return err
	}
	return z.Close()
}

// judged tells the caller what is wrong with the document. Other errors are
// the spool's, or have been told already.
func judged(err error) error {
	var (
		invalid *insight.InvalidError
		corrupt flate.CorruptInputError
	)
	switch {
	case errors.As(err, &invalid):
		return unparsable(err)
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &corrupt):
		return unparsable(errors.New("the document is damaged gzip: " + err.Error()))
	}
	return err
}

// inflated bounds what comes out of a gzipped document.
type inflated struct {
	r           io.Reader
	left, limit int64
}

func (b *inflated) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, insight.Invalidf("document has more than %d bytes when inflated", b.limit)
	}
	return n, err
}
