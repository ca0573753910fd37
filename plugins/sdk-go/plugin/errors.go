package plugin

import (
	"github.com/consort-mesh/consort/plugins/sdk-go/fault"
	"google.golang.org/grpc/codes"
)

// Error is how an operation fails with more than a message; see package fault.
type Error = fault.Error

// The codes to fail with, from gRPC.
const (
	InvalidArgument    = codes.InvalidArgument
	NotFound           = codes.NotFound
	AlreadyExists      = codes.AlreadyExists
	PermissionDenied   = codes.PermissionDenied
	Unauthenticated    = codes.Unauthenticated
	ResourceExhausted  = codes.ResourceExhausted
	FailedPrecondition = codes.FailedPrecondition
	Aborted            = codes.Aborted
	OutOfRange         = codes.OutOfRange
	Unimplemented      = codes.Unimplemented
	Internal           = codes.Internal
	Unavailable        = codes.Unavailable
	DeadlineExceeded   = codes.DeadlineExceeded
)

// Errorf fails a call with a code and a message; add what programs should know:
//
//	return nil, plugin.Errorf(plugin.NotFound, "no file %q", in.Path).Reason("NO_SUCH_FILE").Field("path", "does not exist")
//
// An error that carries a gRPC status passes as it is, the context's own becomes CANCELLED or DEADLINE_EXCEEDED, and any other is INTERNAL with
// its message. A panic is INTERNAL with its stack in the details, and the plugin lives on.
func Errorf(code codes.Code, format string, arguments ...any) *Error {
	return fault.Errorf(code, format, arguments...)
}
