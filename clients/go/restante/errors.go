package restante

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const domain = "restante"

// Reason says why a call failed: the name of a value of the contract's ErrorReason, such as "FOLDER_NOT_FOUND".
//
// A Reason is itself an error, so that errors.Is(err, ReasonFolderNotFound) asks for it.
type Reason string

// Error is the reason's name.
func (r Reason) Error() string { return string(r) }

// FieldViolation is one bad field of a refused request.
type FieldViolation struct {
	// Field is the field's path in the request, such as "draft.attachments".
	Field string
	// Problem says what is wrong with its value.
	Problem string
}

// Error is what every failed call of this package returns.
type Error struct {
	// Code is the gRPC status code.
	Code codes.Code
	// Reason is the contract's. It is empty where the failure was not the server's: a connection that was lost, a
	// deadline that passed or a context that was cancelled on this side.
	Reason Reason
	// Metadata has the facts that the reason declares, such as "folder_id".
	Metadata map[string]string
	// Message is a sentence for people.
	Message string
	// Violations has all bad fields of a refused request, the reason's field first. It is empty where no field is at
	// fault.
	Violations []FieldViolation

	retryDelay time.Duration
	hasRetry   bool
}

// Error is the reason (or the code), the message, in which the server names the facts, and the bad fields.
func (e *Error) Error() string {
	name := string(e.Reason)
	if name == "" {
		name = e.Code.String()
	}
	if e.Message == "" {
		return "restante: " + name + e.badFields()
	}
	return "restante: " + name + ": " + e.Message + e.badFields()
}

// badFields names the bad fields. It is empty where the only one is the reason's, which the message names.
func (e *Error) badFields() string {
	if len(e.Violations) == 0 || len(e.Violations) == 1 && e.Violations[0].Field == e.Metadata["field"] {
		return ""
	}
	shown := make([]string, len(e.Violations))
	for i, each := range e.Violations {
		shown[i] = each.Field + " (" + each.Problem + ")"
	}
	return " Bad fields: " + strings.Join(shown, "; ") + "."
}

// RetryDelay is how long to wait before another attempt, and whether the server said so.
func (e *Error) RetryDelay() (time.Duration, bool) { return e.retryDelay, e.hasRetry }

// Is tells whether target is this error's [Reason].
func (e *Error) Is(target error) bool {
	reason, ok := target.(Reason)
	return ok && reason == e.Reason && reason != ""
}

// Unwrap gives context.DeadlineExceeded or context.Canceled where the code says so, otherwise nothing.
func (e *Error) Unwrap() error {
	switch e.Code {
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.Canceled:
		return context.Canceled
	}
	return nil
}

// GRPCStatus makes status.Code and status.Convert work on this error.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// FromStatus is the error that a google.rpc.Status tells of, such as that of one result of ExecuteOnce. It is nil
// where the status is absent or OK.
func FromStatus(from *statuspb.Status) error {
	if from == nil || from.GetCode() == int32(codes.OK) {
		return nil
	}
	found := &Error{Code: codes.Code(from.GetCode()), Message: from.GetMessage()}
	for _, detail := range from.GetDetails() {
		message, err := detail.UnmarshalNew()
		if err != nil {
			continue // a kind of detail that this version does not know
		}
		switch known := message.(type) {
		case *errdetails.ErrorInfo:
			if known.GetDomain() == domain {
				found.Reason, found.Metadata = Reason(known.GetReason()), known.GetMetadata()
			}
		case *errdetails.RetryInfo:
			found.retryDelay, found.hasRetry = known.GetRetryDelay().AsDuration(), true
		case *errdetails.BadRequest:
			for _, each := range known.GetFieldViolations() {
				found.Violations = append(found.Violations, FieldViolation{each.GetField(), each.GetDescription()})
			}
		}
	}
	return found
}

// FromError is the [*Error] of what a generated stub on a plain gRPC connection returned. Other errors, io.EOF among
// them, and nil are returned as they are; so is what is an [*Error] already.
func FromError(err error) error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	if found, ok := status.FromError(err); ok {
		return FromStatus(found.Proto())
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fromContext(err)
	}
	return err
}

// fromContext is the error of a context that is over.
func fromContext(err error) *Error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &Error{Code: codes.DeadlineExceeded, Message: "The call's time ran out."}
	}
	return &Error{Code: codes.Canceled, Message: "The call was cancelled."}
}

// asError is what FromError gives, as an *Error whatever it was.
func asError(err error) *Error {
	var found *Error
	if errors.As(FromError(err), &found) {
		return found
	}
	return &Error{Code: codes.Unknown, Message: err.Error()}
}

// ofRefusal is the error of a subscription that was refused or has ended.
func ofRefusal(from *statuspb.Status) *Error {
	if err := FromStatus(from); err != nil {
		return asError(err)
	}
	return &Error{Code: codes.Unknown, Message: "The server refused it."}
}

func unavailable(message string) *Error { return &Error{Code: codes.Unavailable, Message: message} }

// isTemporary tells whether the same call may succeed a little later, on another connection.
func isTemporary(err *Error) bool { return err.Code == codes.Unavailable }

// isOver tells whether an error says that the session is no good any more.
func isOver(err *Error) bool { return err.Code == codes.Unauthenticated }
