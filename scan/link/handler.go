package link

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/tunnel"
)

// Queue is what the handler serves; *scan.Queue is one.
type Queue interface {
	Lease(ctx context.Context, peer fleet.Peer, kinds []string, holding []scan.ID) (*scan.Job, error)
	Progress(ctx context.Context, peer fleet.Peer, id scan.ID, attempt int, p scan.Progress) error
	Complete(ctx context.Context, peer fleet.Peer, id scan.ID, attempt int, results io.Reader) error
	Fail(ctx context.Context, peer fleet.Peer, id scan.ID, attempt int, reason string, transient bool) error
	Expand(ctx context.Context, peer fleet.Peer, id scan.ID, attempt int, found []scan.Target) error
	Profile(ctx context.Context, peer fleet.Peer, digest string) (io.ReadCloser, error)
	Ask(ctx context.Context, peer fleet.Peer, r scan.Request) (scan.Scan, error)
	Asked(ctx context.Context, peer fleet.Peer, id scan.ID) (scan.Scan, error)
	Open(ctx context.Context, peer fleet.Peer, after scan.ID) ([]scan.Keyed, error)
	Withdraw(ctx context.Context, peer fleet.Peer, id scan.ID) error
	TakeProfile(ctx context.Context, peer fleet.Peer, archive io.Reader) (ref string, err error)
}

// Handler serves q under /v1/scans and /v1/profiles inside a link, whose peer
// is in the requests' context.
func Handler(q Queue, logger *slog.Logger) http.Handler {
	h := &handler{q: q, log: logger}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/scans/lease", h.serve(h.lease))
	mux.HandleFunc("POST /v1/scans/{id}/progress", h.serve(h.progress))
	mux.HandleFunc("POST /v1/scans/{id}/result", h.serve(h.result))
	mux.HandleFunc("POST /v1/scans/{id}/failure", h.serve(h.failure))
	mux.HandleFunc("POST /v1/scans/{id}/targets", h.serve(h.targets))
	mux.HandleFunc("GET /v1/profiles/{digest}", h.serve(h.profile))
	mux.HandleFunc("POST /v1/scans", h.serve(h.ask))
	mux.HandleFunc("GET /v1/scans", h.serve(h.open))
	mux.HandleFunc("GET /v1/scans/{id}", h.serve(h.asked))
	mux.HandleFunc("POST /v1/scans/{id}/withdraw", h.serve(h.withdraw))
	mux.HandleFunc("POST /v1/profiles", h.serve(h.takeProfile))
	return mux
}

type handler struct {
	q   Queue
	log *slog.Logger
}

// badRequest is an error of the message itself.
type badRequest struct{ error }

func (h *handler) serve(f func(http.ResponseWriter, *http.Request, fleet.Peer) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		peer, ok := fleet.PeerFrom(r.Context())
		if !ok {
			reply(w, http.StatusForbidden, refusal{Code: "no-peer", Error: "this is served inside an agent's link only"})
			return
		}
		if err := f(w, r, peer); err != nil {
			h.fail(r.Context(), w, r.URL.Path, peer, err)
		}
	}
}

func (h *handler) fail(ctx context.Context, w http.ResponseWriter, path string, peer fleet.Peer, err error) {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			reply(w, c.status, refusal{Code: c.code, Error: err.Error()})
			return
		}
	}
	if invalidRequest(err) {
		reply(w, http.StatusUnprocessableEntity, refusal{Code: codeInvalid, Error: err.Error()})
		return
	}
	var bad badRequest
	if errors.As(err, &bad) {
		reply(w, http.StatusBadRequest, refusal{Code: "malformed", Error: err.Error()})
		return
	}
	if ctx.Err() == nil {
		h.log.ErrorContext(ctx, "cannot serve an agent", "agent", peer.Agent, "path", path, "error", err)
	}
	reply(w, http.StatusInternalServerError, refusal{Code: "internal", Error: "the hub could not do this now; see its log"})
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // the peer that went away needs no error
}

func decode(w http.ResponseWriter, r *http.Request, into any) error {
	return decodeAtMost(maxMessage, w, r, into)
}

func decodeAtMost(limit int64, w http.ResponseWriter, r *http.Request, into any) error {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit)).Decode(into); err != nil {
		return badRequest{fmt.Errorf("message is malformed: %w", err)}
	}
	return nil
}

func (h *handler) lease(w http.ResponseWriter, r *http.Request, peer fleet.Peer) error {
	var m leaseRequest
	if err := decode(w, r, &m); err != nil {
		return err
	}
	path := r.URL.Path
	tunnel.Later(w, r, func(ctx context.Context, w http.ResponseWriter) {
		wait := leaseWait
		if len(m.Holding) > 0 {
			wait = busyWait
		}
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		job, err := h.q.Lease(ctx, peer, m.Kinds, m.Holding)
		switch {
		case err == nil && job == nil:
			w.WriteHeader(http.StatusNoContent)
		case err == nil:
			err = give(w, job)
		}
		if err != nil {
			h.fail(ctx, w, path, peer, err)
		}
	})
	return nil
}

func give(w http.ResponseWriter, job *scan.Job) error {
	inputs, err := json.Marshal(job.Inputs)
	if err != nil {
		return fmt.Errorf("inputs of scan %s: %w", job.ID, err)
	}
	t := job.Target
	reply(w, http.StatusOK, jobMessage{
		ID: job.ID, Attempt: job.Attempt,
		Target:   targetMessage{Namespace: t.Namespace, Pod: t.Pod, Container: t.Container, URI: t.URI},
		Selector: job.Selector, Profile: job.Profile, ProfileDigest: job.ProfileDigest, Inputs: inputs,
		TimeoutMS: job.Timeout.Milliseconds(), Method: job.Method, SBOM: job.SBOM, LeaseForMS: job.LeaseFor.Milliseconds(),
	})
	return nil
}

func (h *handler) progress(w http.ResponseWriter, r *http.Request, peer fleet.Peer) error {
	id, err := scan.ParseID(r.PathValue("id"))
	if err != nil {
		return badRequest{err}
	}
	var m progressMessage
	if err := decode(w, r, &m); err != nil {
		return err
	}
	p := scan.Progress{Done: m.Done, Total: m.Total, Control: m.Control}
	if err := h.q.Progress(r.Context(), peer, id, m.Attempt, p); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handler) result(w http.ResponseWriter, r *http.Request, peer fleet.Peer) error {
	id, err := scan.ParseID(r.PathValue("id"))
	if err != nil {
		return badRequest{err}
	}
	attempt, err := strconv.Atoi(r.URL.Query().Get("attempt"))
	if err != nil {
		return badRequest{fmt.Errorf("attempt: %w", err)}
	}
	results := &inflater{raw: http.MaxBytesReader(w, r.Body, maxResult)}
	if err := h.q.Complete(r.Context(), peer, id, attempt, results); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// inflater reads a gzip stream. Its error is scan.ErrBadResult where the
// document is at fault, and the connection's own where that was cut.
type inflater struct {
	raw io.Reader
	eof bool // raw ended by itself
	zip *gzip.Reader
}

func (i *inflater) Read(p []byte) (n int, err error) {
	if i.zip == nil {
		i.zip, err = gzip.NewReader(rawReader{i})
	}
	if err == nil {
		n, err = i.zip.Read(p)
	}
	var (
		corrupt flate.CorruptInputError
		large   *http.MaxBytesError
	)
	cut := i.eof && (errors.Is(err, io.ErrUnexpectedEOF) || i.zip == nil)
	if cut || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.As(err, &corrupt) || errors.As(err, &large) {
		err = fmt.Errorf("%w: not a whole gzip document: %w", scan.ErrBadResult, err)
	}
	return n, err
}

type rawReader struct{ *inflater }

func (r rawReader) Read(p []byte) (int, error) {
	n, err := r.raw.Read(p)
	r.eof = r.eof || err == io.EOF
	return n, err
}

func (h *handler) failure(w http.ResponseWriter, r *http.Request, peer fleet.Peer) error {
	id, err := scan.ParseID(r.PathValue("id"))
	if err != nil {
		return badRequest{err}
	}
	var m failureMessage
	if err := decode(w, r, &m); err != nil {
		return err
	}
	if err := h.q.Fail(r.Context(), peer, id, m.Attempt, m.Reason, m.Transient); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handler) targets(w http.ResponseWriter, r *http.Request, peer fleet.Peer) error {
	id, err := scan.ParseID(r.PathValue("id"))
	if err != nil {
		return badRequest{err}
	}
	var m targetsMessage
	if err := decodeAtMost(maxTargets, w, r, &m); err != nil {
		return err
	}
	found := make([]scan.Target, len(m.Targets))
	for i, t := range m.Targets {
		found[i] = scan.Target{Namespace: t.Namespace, Pod: t.Pod, Container: t.Container}
	}
	if err := h.q.Expand(r.Context(), peer, id, m.Attempt, found); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handler) profile(w http.ResponseWriter, r *http.Request, peer fleet.Peer) error {
	archive, err := h.q.Profile(r.Context(), peer, r.PathValue("digest"))
	if err != nil {
		return err
	}
	defer archive.Close()
	w.Header().Set("Content-Type", "application/gzip")
	if _, err := io.Copy(w, archive); err != nil {
		h.log.WarnContext(r.Context(), "profile not sent whole", "agent", peer.Agent, "error", err)
		panic(http.ErrAbortHandler) // the agent must not take the part for the whole
	}
	return nil
}
