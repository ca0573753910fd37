package plugin

import (
	"context"
	"net"

	pluginv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/plugin/v1"
	"github.com/consort-mesh/consort/plugins/sdk-go/internal/values"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const messageBytes = 4 * 1024 * 1024

// Host is the mesh, as a plugin may ask it. What was not granted is PERMISSION_DENIED, and the message names the line of the manifest that
// would ask for it. An error may leave the handler as it is.
type Host struct {
	conn    grpc.ClientConnInterface
	service pluginv1.PluginHostServiceClient
}

// Secret is the value of a secret that is granted by name. Do not log it.
func (h *Host) Secret(ctx context.Context, name string) (string, error) {
	answer, err := h.service.GetSecret(ctx, &pluginv1.GetSecretRequest{Name: name})
	return answer.GetValue(), err
}

// State is what the plugin kept under a key, and whether there is something.
func (h *Host) State(ctx context.Context, key string) ([]byte, bool, error) {
	answer, err := h.service.GetState(ctx, &pluginv1.GetStateRequest{Key: key})
	if status.Code(err) == codes.NotFound {
		return nil, false, nil
	}
	return answer.GetValue(), err == nil, err
}

// PutState keeps a value of at most 1 MiB under a key of 1 to 255 bytes; it is on disk when this returns, and survives restarts of both.
// An empty value forgets the key.
func (h *Host) PutState(ctx context.Context, key string, value []byte) error {
	_, err := h.service.PutState(ctx, &pluginv1.PutStateRequest{Key: key, Value: value})
	return err
}

// PublishEvent publishes an event of the plugin's own, of type `PLUGIN.{ID}.{NAME}`: `name` has the letters A-Z, digits and `_`, from a letter
// on, and `data` is anything that JSON can say. It returns the event's id.
func (h *Host) PublishEvent(ctx context.Context, name string, data any) (string, error) {
	text, err := values.Encode(data)
	if err != nil {
		return "", Errorf(Internal, "event %s: its data is no JSON: %w", name, err)
	}
	answer, err := h.service.PublishEvent(ctx, &pluginv1.PublishEventRequest{Event: name, Data: values.Payload(text)})
	return answer.GetEventId(), err
}

// Conn is the connection to the mesh, for the other services that the manifest asks for, such as consort.inference.v1.InferenceService.
func (h *Host) Conn() grpc.ClientConnInterface { return h.conn }

func newHost(conn grpc.ClientConnInterface) *Host {
	if conn == nil {
		conn = nowhere{}
	}
	return &Host{conn: conn, service: pluginv1.NewPluginHostServiceClient(conn)}
}

// dialHost connects to the mesh's socket, at the first call.
func dialHost(socket, token string) (*grpc.ClientConn, error) {
	bearer := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	return grpc.NewClient("passthrough:///consort",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}),
		grpc.WithUnaryInterceptor(func(
			ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, options ...grpc.CallOption,
		) error {
			return call(bearer(ctx), method, request, reply, conn, options...)
		}),
		grpc.WithStreamInterceptor(func(
			ctx context.Context, description *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			return open(bearer(ctx), description, conn, method, options...)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytes), grpc.MaxCallSendMsgSize(messageBytes)),
	)
}

// nowhere is the connection of a plugin that was given no mesh to ask.
type nowhere struct{}

func (nowhere) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return status.Error(codes.Unavailable, "CONSORT_HOST_SOCKET is not set, so there is no mesh to ask")
}

func (n nowhere) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, n.Invoke(ctx, "", nil, nil)
}
