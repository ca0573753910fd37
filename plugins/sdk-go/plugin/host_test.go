package plugin

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	pluginv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/plugin/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type bearerHost struct {
	pluginv1.UnimplementedPluginHostServiceServer
}

func (bearerHost) GetSecret(ctx context.Context, _ *pluginv1.GetSecretRequest) (*pluginv1.GetSecretResponse, error) {
	sent, _ := metadata.FromIncomingContext(ctx)
	if got := sent.Get("authorization"); len(got) != 1 || got[0] != "Bearer t0p" {
		return nil, status.Errorf(codes.Unauthenticated, "got %v", got)
	}
	return &pluginv1.GetSecretResponse{Value: "v"}, nil
}

func TestTheTokenGoesWithEveryCall(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "mesh socket")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pluginv1.RegisterPluginHostServiceServer(server, bearerHost{})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	conn, err := dialHost(socket, "t0p")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if value, err := newHost(conn).Secret(t.Context(), "any"); err != nil || value != "v" {
		t.Errorf("got %q, %v", value, err)
	}
	if _, err := newHost(nil).Secret(t.Context(), "any"); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}
