// Command sink is an AlertSink, as the proposal for Allstar's action rpc has it:
// it prints each alert that it is told of. It listens on loopback without TLS; one
// that others reach has TLS, and verifies what it is told (reeve.dev/reeve/alert/verify).
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	allstarv1 "reeve.dev/reeve/proto/allstar/v1"
)

type sink struct {
	allstarv1.UnimplementedAlertSinkServer
}

// Alert is told of one check of one policy. What comes twice has the same id.
func (sink) Alert(ctx context.Context, in *allstarv1.AlertRequest) (*allstarv1.AlertResponse, error) {
	if in.GetOwnerName() == "" || in.GetRepoName() == "" || in.GetPolicyName() == "" {
		return nil, status.Error(codes.InvalidArgument, "owner, repository and policy are needed")
	}
	id := append(metadata.ValueFromIncomingContext(ctx, "reeve-alert-id"), "")[0]
	fmt.Printf("%.8s %s/%s %s: pass=%t\n%s\n", id, in.GetOwnerName(), in.GetRepoName(), in.GetPolicyName(), in.GetPass(), in.GetDetails())
	return &allstarv1.AlertResponse{}, nil
}

func main() {
	addr := flag.String("listen", "127.0.0.1:8500", "`address`")
	flag.Parse()
	if err := serve(*addr); err != nil {
		fmt.Fprintln(os.Stderr, "sink:", err)
		os.Exit(1)
	}
}

func serve(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	allstarv1.RegisterAlertSinkServer(server, sink{})
	fmt.Println("listening on", addr)
	return server.Serve(listener)
}
