package verify_test

import (
	"context"
	"log"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"reeve.dev/reeve/alert/verify"
	allstarv1 "reeve.dev/reeve/proto/allstar/v1"
)

// sink is an AlertSink, generated from the proposal's text.
type sink struct {
	allstarv1.UnimplementedAlertSinkServer
	verifier verify.Verifier
}

func (s sink) Alert(ctx context.Context, in *allstarv1.AlertRequest) (*allstarv1.AlertResponse, error) {
	request, err := proto.MarshalOptions{Deterministic: true}.Marshal(in)
	if err != nil {
		return nil, err
	}
	envelope := append(metadata.ValueFromIncomingContext(ctx, verify.SignatureKey), "")[0]
	signed, err := s.verifier.Alert(envelope, request)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	log.Printf("alert %s: %s/%s", signed.ID, in.GetOwnerName(), in.GetRepoName())
	return &allstarv1.AlertResponse{}, nil
}

func Example() {
	keys, err := verify.FetchKeys(context.Background(), http.DefaultClient, "https://reeve.example.com:8443/api/v1/alert-keys")
	if err != nil {
		log.Fatal(err)
	}
	_ = sink{verifier: verify.Verifier{Keys: keys, Audience: "sink.example.com:443"}} // register it with a grpc.Server
}
