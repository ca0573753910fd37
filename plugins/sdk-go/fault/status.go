package fault

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// A status travels in the headers that end a call, and its message twice. Many receivers take 16 KiB of headers.
const (
	messageLimit = 2 * 1024
	statusLimit  = 6 * 1024
	stackLimit   = 3 * 1024
	fieldLimit   = 20
	textLimit    = 200
)

// GRPCStatus is the error with all its details, cut to what fits into the headers of an answer.
func (e *Error) GRPCStatus() *status.Status {
	plain := status.New(e.code, e.text.Error())
	var details []protoadapt.MessageV1
	add := func(message proto.Message) { details = append(details, protoadapt.MessageV1Of(message)) }
	if e.reason != "" || len(e.metadata) > 0 {
		reason := e.reason
		if reason == "" {
			reason = Name(e.code)
		}
		add(&errdetails.ErrorInfo{Reason: reason, Domain: Domain, Metadata: e.metadata})
	}
	if len(e.violations) > 0 {
		bad := &errdetails.BadRequest{}
		for _, violation := range e.violations[:min(len(e.violations), fieldLimit)] {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
				Field:       Cut(violation.Field, textLimit),
				Description: Cut(violation.Description, textLimit),
			})
		}
		add(bad)
	}
	if e.retryAfter > 0 {
		add(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.retryAfter)})
	}
	if len(e.stack) > 0 {
		add(&errdetails.DebugInfo{StackEntries: fitting(e.stack, stackLimit), Detail: Cut(e.text.Error(), textLimit)})
	}
	full, err := plain.WithDetails(details...)
	if err != nil {
		full = plain // Details that cannot be encoded are no reason to hide the error itself.
	}
	return Fit(full)
}

// Fit cuts a status to what fits into the headers of an answer: its message to 2 KiB, and what stands last among its details.
func Fit(full *status.Status) *status.Status {
	small := full.Proto()
	small.Message = Cut(small.Message, messageLimit)
	for len(small.Details) > 0 && proto.Size(small) > statusLimit {
		small.Details = small.Details[:len(small.Details)-1]
	}
	return status.FromProto(small)
}

// ToProto is the error as it stands in messages, where there is more room: its text is cut to 8 KiB.
func (e *Error) ToProto() *rpc.Status {
	full := e.GRPCStatus().Proto()
	full.Message = Cut(e.text.Error(), 8*1024)
	return full
}

// Read finds the Error in err, or makes one of what it is: a gRPC status stays as it is, with the text of what wraps it; anything else
// gets the given code. It is nil if err is.
func Read(err error, otherwise codes.Code) *Error {
	if err == nil {
		return nil
	}
	if failure, ok := err.(*Error); ok {
		return failure
	}
	found, ok := status.FromError(err)
	if !ok {
		return Errorf(otherwise, "%w", err)
	}
	failure := Errorf(found.Code(), "%s", found.Message())
	for _, detail := range found.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			failure.reason, failure.metadata = detail.Reason, detail.Metadata
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				failure.Field(violation.Field, violation.Description)
			}
		case *errdetails.RetryInfo:
			failure.RetryAfter(detail.RetryDelay.AsDuration())
		}
	}
	return failure
}

// ReasonOf is the reason of an error's ErrorInfo, or empty.
func ReasonOf(err error) string {
	if found, ok := status.FromError(err); ok && found != nil {
		for _, detail := range found.Details() {
			if info, ok := detail.(*errdetails.ErrorInfo); ok {
				return info.Reason
			}
		}
	}
	return ""
}

// Cut is the text, cut to at most limit bytes and marked as cut. What is no UTF-8 becomes `?`.
func Cut(text string, limit int) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= limit {
		return text
	}
	end := limit - len("…")
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// fitting is as many of the lines, from the first on, as have at most limit bytes.
func fitting(lines []string, limit int) []string {
	for i, line := range lines {
		limit -= len(line)
		if limit < 0 {
			return lines[:i]
		}
	}
	return lines
}
