package restante

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

// Operation is one call that was handed to the Execute stream with [Client.Go].
type Operation struct {
	method      *method
	body        []byte // the request with its tag, as a field of Operation
	response    proto.Message
	session     tokenSource
	deadline    time.Time
	independent bool
	repeatable  bool

	// What follows is the multiplexer's, under its mutex.
	id       int64
	lane     *lane
	stream   *executeStream // that it was sent on; nil: it waits
	giveUpAt time.Time      // set when a stream was lost: it is not sent again after this

	once sync.Once
	done chan struct{}
	err  error
	stop func() bool // ends the watching of the context; nil: it has no end
}

// tokenSource gives the token to send now.
type tokenSource interface{ token() []byte }

// Done is closed when the operation has been answered or has failed.
func (o *Operation) Done() <-chan struct{} { return o.done }

// Wait waits until the operation is done. It returns nil when the response has been filled in, otherwise an *Error.
func (o *Operation) Wait() error {
	<-o.done
	return o.err
}

// newOperation encodes a request. The deadline of the context is the operation's.
func newOperation(ctx context.Context, called *method, request, response proto.Message, independent bool) (*Operation, error) {
	size := proto.Size(request)
	body := protowire.AppendTag(make([]byte, 0, size+12), called.request.Number(), protowire.BytesType)
	body = protowire.AppendVarint(body, uint64(size))
	body, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(body, request)
	if err != nil {
		return nil, &Error{Code: codes.InvalidArgument, Message: err.Error()}
	}
	made := &Operation{
		method: called, body: body, response: response, independent: independent,
		repeatable: mayRepeat(called, request), done: make(chan struct{}),
	}
	made.deadline, _ = ctx.Deadline()
	return made, nil
}

// finish fills in the response, or the error of the result's status.
func (o *Operation) finish(result *wireResult) {
	if err := result.failure(); err != nil {
		o.end(err)
		return
	}
	if !result.answered || result.field != o.method.response.Number() {
		o.end(&Error{Code: codes.Internal, Message: "The result holds no response of " + o.method.path + "."})
		return
	}
	o.once.Do(func() {
		if err := proto.Unmarshal(result.response, o.response); err != nil {
			o.err = &Error{Code: codes.Internal, Message: err.Error()}
		}
		close(o.done)
	})
	o.forget()
}

// fail ends the operation with an error.
func (o *Operation) fail(err *Error) { o.end(err) }

func (o *Operation) end(err error) {
	o.once.Do(func() {
		o.err = err
		close(o.done)
	})
	o.forget()
}

// forget lets go of the context.
func (o *Operation) forget() {
	if o.stop != nil {
		o.stop()
	}
}

// mayRepeat tells whether a call whose answer was lost may be sent again. Whatever must not happen twice carries a
// request_id; what remains is a later step of a SASL exchange, which is good once, and a change of password, which
// would be answered by a complaint about the old one.
func mayRepeat(called *method, request proto.Message) bool {
	switch called.path {
	case restantev1.SessionService_Authenticate_FullMethodName:
		step, ok := request.(*restantev1.AuthenticateRequest)
		return ok && len(step.GetExchange()) == 0
	case restantev1.SessionService_ChangePassword_FullMethodName:
		return false
	}
	return true
}
