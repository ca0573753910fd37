package plugintest

import (
	"context"
	"fmt"
	"regexp"
	"sync"

	"github.com/consort-mesh/consort/plugins/sdk-go/fault"
	pluginv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/plugin/v1"
	"github.com/consort-mesh/consort/plugins/sdk-go/internal/values"
	"google.golang.org/grpc/codes"
)

const valueLimit = 1024 * 1024

var eventName = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)

// host answers what a plugin asks of the mesh, from memory.
type host struct {
	pluginv1.UnimplementedPluginHostServiceServer
	mu      sync.Mutex
	secrets map[string]string
	state   map[string][]byte
	events  []Event
}

func newHost() *host { return &host{secrets: map[string]string{}, state: map[string][]byte{}} }

func (h *host) GetSecret(_ context.Context, request *pluginv1.GetSecretRequest) (*pluginv1.GetSecretResponse, error) {
	value, ok := h.secrets[request.Name]
	if !ok {
		return nil, fault.Errorf(codes.PermissionDenied, "the secret %q is not granted; it takes `secrets = [%q]`", request.Name, request.Name)
	}
	return &pluginv1.GetSecretResponse{Value: value}, nil
}

func (h *host) GetState(_ context.Context, request *pluginv1.GetStateRequest) (*pluginv1.GetStateResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	value, ok := h.state[request.Key]
	if !ok {
		return nil, fault.Errorf(codes.NotFound, "nothing is kept under %q", request.Key)
	}
	return &pluginv1.GetStateResponse{Value: value}, nil
}

func (h *host) PutState(_ context.Context, request *pluginv1.PutStateRequest) (*pluginv1.PutStateResponse, error) {
	if len(request.Key) < 1 || len(request.Key) > 255 {
		return nil, fault.Invalid(fault.Violation{Field: "key", Description: "must have 1 to 255 bytes"})
	}
	if len(request.Value) > valueLimit {
		return nil, fault.Invalid(fault.Violation{Field: "value", Description: "has more than 1 MiB"})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(request.Value) == 0 {
		delete(h.state, request.Key)
	} else {
		h.state[request.Key] = request.Value
	}
	return &pluginv1.PutStateResponse{}, nil
}

func (h *host) PublishEvent(_ context.Context, request *pluginv1.PublishEventRequest) (*pluginv1.PublishEventResponse, error) {
	if !eventName.MatchString(request.Event) {
		return nil, fault.Invalid(fault.Violation{Field: "event", Description: "must have letters A-Z, digits and `_`, from a letter on"})
	}
	text, _, err := values.Text(request.Data, "null")
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, Event{Name: request.Event, Data: text})
	return &pluginv1.PublishEventResponse{EventId: fmt.Sprintf("00000000-0000-4000-8000-%012d", len(h.events))}, nil
}
