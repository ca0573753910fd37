// Package fault has the error that plugins and workers fail with: a gRPC status code, a message, and details that programs can read.
package fault

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// Domain is the domain of every google.rpc.ErrorInfo that the SDK makes.
const Domain = "consort.dev"

// Error is how an operation or a task fails. Make it with [Errorf] and add what programs should know:
//
//	fault.Errorf(codes.NotFound, "no file %q", path).Reason("NO_SUCH_FILE").Field("path", "does not exist")
//
// It is a gRPC status error, and travels as google.rpc.Status with ErrorInfo, BadRequest and RetryInfo.
type Error struct {
	code       codes.Code
	text       error
	reason     string
	metadata   map[string]string
	violations []Violation
	retryAfter time.Duration
	retryable  *bool
	stack      []string
}

// Violation says what is wrong with one field.
type Violation struct {
	// Field is its path in the input, for example `items[2].name`.
	Field string
	// Description is what is wrong with it, and what to write instead.
	Description string
}

// Errorf makes an error of a code. The format is that of fmt.Errorf, `%w` included. codes.OK is no failure and becomes codes.Internal.
func Errorf(code codes.Code, format string, arguments ...any) *Error {
	if code == codes.OK || code > codes.Unauthenticated {
		code = codes.Internal
	}
	return &Error{code: code, text: fmt.Errorf(format, arguments...)}
}

// Invalid is INVALID_ARGUMENT for fields of the input.
func Invalid(violations ...Violation) *Error {
	parts := make([]string, len(violations))
	for i, violation := range violations {
		parts[i] = violation.Field + ": " + violation.Description
	}
	failure := Errorf(codes.InvalidArgument, "%s", strings.Join(parts, "; "))
	failure.violations = violations
	return failure
}

// Reason sets the machine's word for what happened, such as `NO_SUCH_FILE`, and returns the error.
func (e *Error) Reason(reason string) *Error {
	e.reason = reason
	return e
}

// With adds a fact to the ErrorInfo and returns the error.
func (e *Error) With(key, value string) *Error {
	if e.metadata == nil {
		e.metadata = map[string]string{}
	}
	e.metadata[key] = value
	return e
}

// Field says what is wrong with a field of the input, and returns the error.
func (e *Error) Field(field, description string) *Error {
	e.violations = append(e.violations, Violation{Field: field, Description: description})
	return e
}

// RetryAfter says how long to wait at least before trying again, and returns the error.
func (e *Error) RetryAfter(wait time.Duration) *Error {
	e.retryAfter = max(wait, 0)
	return e
}

// Retryable says whether another try can help, and returns the error. Left out, it follows from the code. Only workers read it: for an
// operation the mesh decides by its effect and the code.
func (e *Error) Retryable(yes bool) *Error {
	e.retryable = &yes
	return e
}

// Code is the status code.
func (e *Error) Code() codes.Code { return e.code }

// Violations are the fields that are wrong.
func (e *Error) Violations() []Violation { return e.violations }

// Error is the code's name and the message.
func (e *Error) Error() string { return Name(e.code) + ": " + e.text.Error() }

// Unwrap gives what `%w` wrapped.
func (e *Error) Unwrap() error { return errors.Unwrap(e.text) }

// Panicked is INTERNAL for a recovered panic, with the stack as DebugInfo.
func Panicked(value any, stack []byte) *Error {
	failure := Errorf(codes.Internal, "panic: %v", value)
	failure.stack = strings.Split(strings.TrimSpace(string(stack)), "\n")
	for i, line := range failure.stack {
		if strings.HasPrefix(line, "panic(") && i+2 < len(failure.stack) {
			failure.stack = failure.stack[i+2:] // What stands before is the recovery.
			break
		}
	}
	return failure
}

// Delay is what RetryAfter was given, and whether it was.
func (e *Error) Delay() (time.Duration, bool) { return e.retryAfter, e.retryAfter > 0 }

// CanRetry tells whether another try can help: what Retryable was given, or else what the code says.
func (e *Error) CanRetry() bool {
	if e.retryable != nil {
		return *e.retryable
	}
	switch e.code {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied, codes.Unauthenticated,
		codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented, codes.DataLoss:
		return false
	}
	return true
}

var names = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
	"UNAUTHENTICATED",
}

// Name is the code's name as the protocol writes it, for example `NOT_FOUND`.
func Name(code codes.Code) string {
	if int(code) < len(names) {
		return names[code]
	}
	return fmt.Sprintf("CODE_%d", code)
}

// Code is the code of a name such as `NOT_FOUND`, and whether there is one.
func Code(name string) (codes.Code, bool) {
	for code, known := range names {
		if known == name {
			return codes.Code(code), true
		}
	}
	return codes.Unknown, false
}
