package rpc

import (
	"context"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	allstarv1 "reeve.dev/reeve/proto/allstar/v1"
)

// Received is an alert as a sink gets it.
type Received struct {
	// Outcome has a subject, a policy, details and whether it passed.
	Outcome fleet.Outcome
	// ID is the same when an alert is repeated; Seq rises within one owner,
	// repo and policy; Hops is through how many hubs it has come before the
	// sender. They are zero if the sender isn't Reeve.
	ID   alert.ID
	Seq  int64
	Hops int
}

// Services are the names of the services that Register serves.
func Services() (names []string) {
	for _, path := range paths {
		name, _, _ := strings.Cut(path[1:], "/")
		names = append(names, name)
	}
	return names
}

// Register serves handle as AlertSink under each path that senders use. An
// alert without owner, repo or policy is refused before handle sees it: an
// empty message would read as a failure of nothing. An error of handle that
// is no gRPC status makes the sender try again, and is not shown to it.
func Register(r grpc.ServiceRegistrar, handle func(context.Context, Received) error) {
	for _, name := range Services() {
		desc := allstarv1.AlertSink_ServiceDesc
		desc.ServiceName = name
		r.RegisterService(&desc, receiver{handle: handle})
	}
}

type receiver struct {
	allstarv1.UnimplementedAlertSinkServer
	handle func(context.Context, Received) error
}

// Alert implements allstarv1.AlertSinkServer.
func (r receiver) Alert(ctx context.Context, req *allstarv1.AlertRequest) (*allstarv1.AlertResponse, error) {
	for _, f := range []struct{ name, value string }{
		{"owner_name", req.GetOwnerName()}, {"repo_name", req.GetRepoName()}, {"policy_name", req.GetPolicyName()},
	} {
		if f.value == "" {
			return nil, status.Errorf(codes.InvalidArgument, "%s is empty", f.name)
		}
	}
	got := Received{Outcome: fleet.Outcome{
		Subject: fleet.Subject{Owner: req.GetOwnerName(), Repo: req.GetRepoName()},
		Policy:  req.GetPolicyName(),
		Pass:    req.GetPass(),
		Details: req.GetDetails(),
	}}
	if v := metadata.ValueFromIncomingContext(ctx, IDKey); len(v) == 1 {
		got.ID = alert.ID(v[0])
	}
	seq, err := number(ctx, SeqKey)
	if err != nil {
		return nil, err
	}
	hops, err := number(ctx, HopsKey)
	if err != nil {
		return nil, err
	}
	got.Seq, got.Hops = seq, int(hops)
	if err := r.handle(ctx, got); err != nil {
		if _, ok := status.FromError(err); ok {
			return nil, err
		}
		return nil, status.Error(codes.Internal, "the alert could not be taken")
	}
	return &allstarv1.AlertResponse{}, nil
}

// number is metadata that Reeve sends; 0 if it isn't there.
func number(ctx context.Context, key string) (int64, error) {
	v := metadata.ValueFromIncomingContext(ctx, key)
	if len(v) != 1 {
		return 0, nil
	}
	n, err := strconv.ParseInt(v[0], 10, 64)
	if err != nil || n < 0 {
		return 0, status.Errorf(codes.InvalidArgument, "metadata %s is not a number", key)
	}
	return n, nil
}

// A run of an outcome that a hub was told by another, or by any sender, is
// received:HOPS:NAME, so that an alert that comes round can be told.
const receivedRun = "received:"

// MaxHops is through how many hubs an alert may come.
const MaxHops = 4

// Run names the run of an outcome that a hub received; name is unique to the
// alert.
func (r Received) Run(name string) string {
	return receivedRun + strconv.Itoa(r.Hops+1) + ":" + name
}

// hopsOf is through how many hubs an outcome came to this one.
func hopsOf(run string) int {
	rest, found := strings.CutPrefix(run, receivedRun)
	if !found {
		return 0
	}
	text, _, _ := strings.Cut(rest, ":")
	n, _ := strconv.Atoi(text)
	return n
}
