package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/rpc"
	"reeve.dev/reeve/api"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
)

// receiver is the hub as an AlertSink: what any program tells it that speaks
// the proposal becomes an outcome, and is told to the hub's own sinks.
//
// Who sends needs the role operator: in the whole fleet for any owner, or in a
// part of it for the workloads there, whose owner is AGENT/NAMESPACE. The
// answer comes once the outcome is in the database, for the sinks that hear of
// every outcome; without one it is refused. An alert that is repeated
// with the same reeve-alert-id is one outcome.
type receiver struct {
	grpc  *grpc.Server
	auth  func(*http.Request) (api.Caller, error)
	store alert.Runs
	sinks []string
}

const (
	maxAlert        = 4 << 20
	maxAlertHeaders = 32 << 10
	maxAlertID      = 256
)

func newReceiver(auth func(*http.Request) (api.Caller, error), store alert.Runs, sinks []string) *receiver {
	r := &receiver{auth: auth, store: store, sinks: sinks, grpc: grpc.NewServer(
		grpc.MaxRecvMsgSize(maxAlert), grpc.MaxHeaderListSize(maxAlertHeaders),
	)}
	rpc.Register(r.grpc, r.take)
	return r
}

type senderKey struct{}

// ServeHTTP lets in who has a credential, before a message is read.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.ProtoMajor != 2 || !strings.HasPrefix(req.Header.Get("Content-Type"), "application/grpc") {
		http.Error(w, "this is an AlertSink: it is called by gRPC", http.StatusUnsupportedMediaType)
		return
	}
	caller, err := r.auth(req)
	switch {
	case errors.Is(err, pki.ErrIssuerAway):
		refuse(w, codes.Unavailable, "the issuer of logins can't be asked now")
	case err != nil:
		refuse(w, codes.Unauthenticated, err.Error())
	case !caller.Role.Allows(pki.Operator):
		refuse(w, codes.PermissionDenied, "sending alerts needs the role operator; "+caller.String()+" has the role "+string(caller.Role))
	default:
		r.grpc.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), senderKey{}, caller)))
	}
}

// refuse answers without a message, as gRPC over HTTP/2 has it
// (Trailers-Only).
func refuse(w http.ResponseWriter, code codes.Code, message string) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Grpc-Status", strconv.Itoa(int(code)))
	w.Header().Set("Grpc-Message", percent(message))
	w.WriteHeader(http.StatusOK)
}

// percent encodes what a header can't hold.
func percent(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
		}
	}
	return b.String()
}

// take records an alert.
func (r *receiver) take(ctx context.Context, got rpc.Received) error {
	caller := ctx.Value(senderKey{}).(api.Caller)
	o := got.Outcome
	agent, namespace, workload := strings.Cut(o.Subject.Owner, "/")
	if !caller.Rights.Everywhere(pki.Operator) && (!workload || !caller.Rights.In(pki.Operator, fleet.AgentName(agent), namespace)) {
		return status.Errorf(codes.PermissionDenied, "%s may not tell of the owner %s: it is %s", caller, o.Subject.Owner, caller.Rights)
	}
	switch {
	case got.Hops >= rpc.MaxHops:
		return status.Errorf(codes.InvalidArgument, "it has come through %d hubs: it goes in a circle", got.Hops)
	case len(r.sinks) == 0:
		return status.Error(codes.FailedPrecondition, "this hub has no sink that hears of every outcome, so nobody would be told")
	case len(got.ID) > maxAlertID:
		return status.Errorf(codes.InvalidArgument, "metadata %s is longer than %d bytes", rpc.IDKey, maxAlertID)
	}
	name := uuid.NewString()
	if got.ID != "" {
		sum := sha256.Sum256([]byte(caller.String() + "\x00" + string(got.ID)))
		name = hex.EncodeToString(sum[:16])
	}
	o.Run, o.At = got.Run(name), time.Now()
	err := r.store.Emit(ctx, alert.Emit{Run: o.Run, Alone: true, Emissions: []alert.Emission{{Outcome: o, Sinks: r.sinks}}})
	switch {
	case errors.Is(err, alert.ErrFull):
		return status.Error(codes.ResourceExhausted, "the hub's outbox is full; try again later")
	case errors.Is(err, alert.ErrUnnamed):
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return err
}
