package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	pluginv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/plugin/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

const (
	handshakeVersion = 1
	cookie           = "consort-plugin-host"
	// Streams beyond the calls in work: those that are refused, health checks and Drain.
	spareStreams = 64
	// How long calls in work may go on when the process is told to end. The mesh drains before.
	lastCalls = 3 * time.Second
)

// Env is what a plugin is served with. [Plugin.Main] takes it from the process; tests make their own.
type Env struct {
	// Listener is where the mesh connects. Serve closes it.
	Listener net.Listener
	// Host is a connection to the mesh's PluginHostService; nil if there is none to ask.
	Host grpc.ClientConnInterface
	// DataDir is a folder of the plugin's own.
	DataDir string
	// Abandoned, when it is closed, says that nobody waits for the calls in work: they are cancelled at once when the context ends.
	Abandoned <-chan struct{}
}

// Check reports everything that is wrong with the plugin as it was put together, or nil.
func (p *Plugin) Check() error {
	problems := p.problems
	if len(p.operations) == 0 {
		problems = append(problems, "operations: none; add one with plugin.Operation")
	}
	if p.MaxInWork < 1 {
		problems = append(problems, fmt.Sprintf("MaxInWork: %d is too small; give at least 1", p.MaxInWork))
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(problems, "\n"))
}

// Serve serves until the context ends. Calls that are in work then have 3 s to finish, and are cancelled.
func (p *Plugin) Serve(ctx context.Context, env Env) error {
	defer env.Listener.Close()
	if err := p.Check(); err != nil {
		return err
	}
	healthy := health.NewServer()
	service, err := newService(p, newHost(env.Host), env.DataDir, healthy)
	if err != nil {
		return err
	}
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(messageBytes),
		grpc.MaxSendMsgSize(messageBytes),
		grpc.MaxConcurrentStreams(uint32(p.MaxInWork+spareStreams)),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	pluginv1.RegisterPluginServiceServer(server, service)
	grpc_health_v1.RegisterHealthServer(server, healthy)
	healthy.SetServingStatus(pluginv1.PluginService_ServiceDesc.ServiceName, grpc_health_v1.HealthCheckResponse_SERVING)

	served := make(chan error, 1)
	go func() { served <- server.Serve(env.Listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	healthy.Shutdown()
	service.end(env.Abandoned)
	// The answers of what just ended are still on their way.
	stopped := time.AfterFunc(tidyUp, server.Stop)
	defer stopped.Stop()
	server.GracefulStop()
	<-served
	return nil
}

// end takes nothing new and waits for what is in work, but not for ever.
func (s *service) end(abandoned <-chan struct{}) {
	empty := s.gate.close()
	select {
	case <-empty:
		return
	case <-abandoned:
	case <-time.After(lastCalls):
	}
	s.gate.cancel()
	select {
	case <-empty:
	case <-time.After(tidyUp):
	}
}

// handshake is what the mesh says in the environment.
type handshake struct {
	socket, data, hostSocket, token string
}

// errByHand is why a plugin that no mesh started does not run.
var errByHand = errors.New("is a plugin of Consort, and is started by the mesh; to try it, run `consort plugin test` on its folder")

// readHandshake reads the environment, and takes the token out of it so that programs which the plugin starts do not see it.
func readHandshake() (handshake, error) {
	if os.Getenv("CONSORT_PLUGIN_COOKIE") != cookie {
		return handshake{}, errByHand
	}
	versions := os.Getenv("CONSORT_PLUGIN_PROTOCOLS")
	low, high, ok := protocolRange(versions)
	if !ok {
		return handshake{}, fmt.Errorf("CONSORT_PLUGIN_PROTOCOLS is %q; it must be the lowest and the highest version, for example 1-1", versions)
	}
	if protocol < low || protocol > high {
		return handshake{}, fmt.Errorf("the mesh speaks the protocol in versions %s, this plugin in version %d; build it with a newer SDK", versions, protocol)
	}
	found := handshake{
		socket: os.Getenv("CONSORT_PLUGIN_SOCKET"), data: os.Getenv("CONSORT_PLUGIN_DATA"),
		hostSocket: os.Getenv("CONSORT_HOST_SOCKET"), token: os.Getenv("CONSORT_PLUGIN_TOKEN"),
	}
	if found.socket == "" {
		return handshake{}, errors.New("CONSORT_PLUGIN_SOCKET is not set; it must be the path where the plugin listens")
	}
	return found, os.Unsetenv("CONSORT_PLUGIN_TOKEN")
}

func protocolRange(text string) (low, high int, ok bool) {
	first, last, found := strings.Cut(text, "-")
	low, lowErr := strconv.Atoi(first)
	high, highErr := strconv.Atoi(last)
	return low, high, found && lowErr == nil && highErr == nil && low <= high
}

// listen opens the socket for the plugin's own user only.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("CONSORT_PLUGIN_SOCKET: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("CONSORT_PLUGIN_SOCKET: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, fmt.Errorf("CONSORT_PLUGIN_SOCKET: %w", err)
	}
	return listener, nil
}
