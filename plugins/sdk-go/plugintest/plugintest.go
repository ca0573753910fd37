// Package plugintest runs a plugin within a test, with a mesh that is none: calls go through gRPC, schemas and limits as they do in earnest.
//
//	mesh := plugintest.Start(t, newPlugin(), plugintest.Secret("token", "t0p"))
//	got, err := plugintest.Invoke[Counted](mesh, "count", Text{Text: "two words"})
package plugintest

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"

	pluginv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/plugin/v1"
	"github.com/consort-mesh/consort/plugins/sdk-go/internal/schema"
	"github.com/consort-mesh/consort/plugins/sdk-go/internal/values"
	"github.com/consort-mesh/consort/plugins/sdk-go/plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/structpb"
)

const pipeBytes = 256 * 1024

// Mesh is what a plugin under test takes for the mesh.
type Mesh struct {
	t       testing.TB
	client  pluginv1.PluginServiceClient
	outputs map[string]*schema.Schema
	config  any
	granted *pluginv1.Permissions
	host    *host
}

// Option sets up the mesh of a test.
type Option func(*Mesh)

// Config is the operator's configuration, in any type that JSON can say.
func Config(config any) Option { return func(m *Mesh) { m.config = config } }

// Secret grants a secret and gives its value.
func Secret(name, value string) Option {
	return func(m *Mesh) {
		m.host.secrets[name] = value
		m.granted.Secrets = append(m.granted.Secrets, name)
	}
}

// State is what the plugin has kept under a key.
func State(key string, value []byte) Option { return func(m *Mesh) { m.host.state[key] = value } }

// Capability grants capabilities that the plugin names itself.
func Capability(names ...string) Option {
	return func(m *Mesh) { m.granted.Capabilities = append(m.granted.Capabilities, names...) }
}

// Permissions grants more than secrets and capabilities.
func Permissions(change func(granted *pluginv1.Permissions)) Option {
	return func(m *Mesh) { change(m.granted) }
}

// Start serves the plugin until the test ends. The test fails at once if the plugin has mistakes or refuses its configuration.
func Start(t testing.TB, p *plugin.Plugin, options ...Option) *Mesh {
	t.Helper()
	m, err := start(t, p, options)
	if err != nil {
		t.Fatalf("the plugin does not start: %v", err)
	}
	return m
}

// StartError is why the plugin does not start with these options; nil if it does.
func StartError(t testing.TB, p *plugin.Plugin, options ...Option) error {
	_, err := start(t, p, options)
	return err
}

func start(t testing.TB, p *plugin.Plugin, options []Option) (*Mesh, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	m := &Mesh{t: t, outputs: map[string]*schema.Schema{}, granted: &pluginv1.Permissions{}, host: newHost()}
	for _, option := range options {
		option(m)
	}
	hostEnd, pluginEnd := bufconn.Listen(pipeBytes), bufconn.Listen(pipeBytes)
	hostServer := grpc.NewServer()
	pluginv1.RegisterPluginHostServiceServer(hostServer, m.host)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = hostServer.Serve(hostEnd) })
	env := plugin.Env{Listener: pluginEnd, Host: dial(t, hostEnd), DataDir: t.TempDir(), Abandoned: ctx.Done()}
	served := make(chan error, 1)
	running.Go(func() { served <- p.Serve(ctx, env) })
	t.Cleanup(func() {
		stop()
		hostServer.Stop()
		running.Wait()
	})
	m.client = pluginv1.NewPluginServiceClient(dial(t, pluginEnd))
	return m, m.greet()
}

// greet says what the mesh says first.
func (m *Mesh) greet() error {
	hello, err := m.client.Hello(m.t.Context(), &pluginv1.HelloRequest{MeshVersion: "0.0.0-test", Protocol: 1})
	if err != nil {
		return err
	}
	for _, op := range hello.Operations {
		if op.OutputSchema == nil {
			continue
		}
		text, err := op.OutputSchema.MarshalJSON()
		if err != nil {
			return err
		}
		if m.outputs[op.Name], err = schema.Parse(text); err != nil {
			return err
		}
	}
	request := &pluginv1.ConfigureRequest{Permissions: m.granted}
	if m.config != nil {
		text, err := values.Encode(m.config)
		if err != nil {
			return err
		}
		request.Config = &structpb.Struct{}
		if err := request.Config.UnmarshalJSON(text); err != nil {
			return err
		}
	}
	_, err = m.client.Configure(m.t.Context(), request)
	return err
}

// Events are those that the plugin published.
func (m *Mesh) Events() []Event {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	return slices.Clone(m.host.events)
}

// States is what the plugin keeps, by key.
func (m *Mesh) States() map[string][]byte {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	return maps.Clone(m.host.state)
}

// Event is one that the plugin published.
type Event struct {
	Name string
	Data json.RawMessage
}

func dial(t testing.TB, listener *bufconn.Listener) *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:///test",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
