package plugin

import (
	"context"
	"sync"
	"time"

	sdk "github.com/consort-mesh/consort/plugins/sdk-go"
	"github.com/consort-mesh/consort/plugins/sdk-go/fault"
	pluginv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/plugin/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// How long a cancelled call may tidy up before the drain ends without it.
	tidyUp = time.Second
	// A drain answers this long before its deadline.
	drainMargin = 200 * time.Millisecond
)

// service serves a plugin in one process.
type service struct {
	pluginv1.UnimplementedPluginServiceServer
	plugin  *Plugin
	hello   *pluginv1.HelloResponse
	gate    *gate
	health  *health.Server
	host    *Host
	dataDir string

	mu      sync.Mutex
	config  any
	granted *pluginv1.Permissions
	ready   bool
}

func newService(p *Plugin, host *Host, dataDir string, health *health.Server) (*service, error) {
	hello := &pluginv1.HelloResponse{Name: p.name, Version: p.version, Description: p.description, Sdk: sdk.Name}
	for _, op := range p.operations {
		input, err := op.input.Document()
		if err != nil {
			return nil, err
		}
		output, err := op.output.Document()
		if err != nil {
			return nil, err
		}
		hello.Operations = append(hello.Operations, &pluginv1.Operation{
			Name: op.spec.Name, Description: op.spec.Description, InputSchema: input, OutputSchema: output,
			Effect: op.effect(), Timeout: durationpb.New(op.timeout()), DryRun: op.spec.DryRun,
		})
	}
	if p.config != nil {
		document, err := p.config.schema.Document()
		if err != nil {
			return nil, err
		}
		hello.ConfigSchema = document
	}
	return &service{
		plugin: p, hello: hello, gate: newGate(p.MaxInWork), host: host, dataDir: dataDir, health: health,
		ready: p.config == nil, granted: &pluginv1.Permissions{},
	}, nil
}

func (op *operation) effect() Effect {
	if op.spec.Effect == pluginv1.Effect_EFFECT_UNSPECIFIED {
		return Write
	}
	return op.spec.Effect
}

func (op *operation) timeout() time.Duration {
	if op.spec.Timeout == 0 {
		return defaultTimeout
	}
	return op.spec.Timeout
}

// Hello says who the plugin is.
func (s *service) Hello(_ context.Context, request *pluginv1.HelloRequest) (*pluginv1.HelloResponse, error) {
	if request.Protocol != protocol {
		return nil, Errorf(FailedPrecondition, "protocol %d is not spoken here; it is %d", request.Protocol, protocol).Reason("PROTOCOL_UNKNOWN")
	}
	return s.hello, nil
}

// Configure takes the operator's configuration and what is granted.
func (s *service) Configure(ctx context.Context, request *pluginv1.ConfigureRequest) (_ *pluginv1.ConfigureResponse, err error) {
	defer func() { err = statusOf(ctx, err) }()
	defer recovered(&err)
	config, err := s.takeConfig(ctx, request)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config, s.ready = config, true
	if request.Permissions != nil {
		s.granted = request.Permissions
	}
	return &pluginv1.ConfigureResponse{}, nil
}

func (s *service) takeConfig(ctx context.Context, request *pluginv1.ConfigureRequest) (any, error) {
	if s.plugin.config == nil {
		for field := range request.Config.GetFields() {
			return nil, fault.Invalid(fault.Violation{Field: field, Description: "is not known; this plugin takes no configuration"})
		}
		return nil, nil
	}
	text := []byte("{}")
	if request.Config != nil {
		var err error
		if text, err = request.Config.MarshalJSON(); err != nil {
			return nil, Errorf(InvalidArgument, "the configuration cannot be read: %w", err)
		}
	}
	if wrong := s.plugin.config.schema.Check(text, "config"); len(wrong) > 0 {
		return nil, fault.Invalid(wrong...).Reason("CONFIG_INVALID")
	}
	config, err := s.plugin.config.take(ctx, text)
	if _, ok := status.FromError(err); err != nil && !ok {
		err = Errorf(InvalidArgument, "the configuration will not do: %w", err).Reason("CONFIG_INVALID")
	}
	return config, err
}

func (s *service) configuration() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config
}

func (s *service) permissions() *pluginv1.Permissions {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.granted
}

func (s *service) configured() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

// Drain takes nothing new, waits for what is in work, and cancels it after the grace, or when the deadline is near.
func (s *service) Drain(ctx context.Context, request *pluginv1.DrainRequest) (*pluginv1.DrainResponse, error) {
	s.health.Shutdown()
	empty := s.gate.close()
	var grace, late <-chan time.Time
	if request.Grace != nil {
		grace = time.After(max(request.Grace.AsDuration(), 0))
	}
	if deadline, ok := ctx.Deadline(); ok {
		late = time.After(time.Until(deadline) - drainMargin)
	}
	select {
	case <-empty:
		return &pluginv1.DrainResponse{}, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err() // Whoever asked has gone; what is in work goes on.
	case <-grace:
	case <-late:
	}
	cancelled := s.gate.cancel()
	select {
	case <-empty:
	case <-ctx.Done():
	case <-time.After(min(tidyUp, drainMargin/2)):
	}
	return &pluginv1.DrainResponse{Cancelled: int32(cancelled)}, nil
}

// statusOf is what an error looks like on the wire; nil stays nil.
func statusOf(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); !ok {
		switch {
		case isContextError(err) && context.Cause(ctx) == errDraining:
			err = Errorf(codes.Canceled, "cancelled, because the plugin drains").Reason("DRAINING")
		case isContextError(err) && ctx.Err() != nil:
			return status.FromContextError(ctx.Err()).Err()
		default:
			err = Errorf(codes.Internal, "%w", err)
		}
	}
	found, _ := status.FromError(err)
	return fault.Fit(found).Err()
}
