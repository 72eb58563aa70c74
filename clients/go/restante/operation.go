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

// Numbers of fields that are written by hand, so that a request is encoded where it is called, once, and the stream
// only joins octets.
const (
	fieldOperations  protowire.Number = 1 // of ExecuteRequest
	fieldOperationID protowire.Number = 1 // of Operation
	fieldToken       protowire.Number = 2
	fieldTimeout     protowire.Number = 3
	fieldIndependent protowire.Number = 4
	headOctets                        = 96 // enough for those of an operation, with a token of 64 octets
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

	once   sync.Once
	done   chan struct{}
	err    error
	stop   func() bool // ends the watching of the context
	cancel func()      // of a context that was made for it
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

// octets is the most that the operation takes of a message.
func (o *Operation) octets() int { return len(o.body) + headOctets + 2*binaryLength }

// binaryLength is the most that a tag with a length takes.
const binaryLength = 6

// appendTo adds the operation to the octets of an ExecuteRequest.
func (o *Operation) appendTo(octets []byte, token []byte, now time.Time) []byte {
	var room [headOctets]byte
	head := protowire.AppendVarint(protowire.AppendTag(room[:0], fieldOperationID, protowire.VarintType), uint64(o.id))
	if len(token) > 0 {
		head = protowire.AppendBytes(protowire.AppendTag(head, fieldToken, protowire.BytesType), token)
	}
	if !o.deadline.IsZero() {
		left := uint64(max(1, o.deadline.Sub(now).Milliseconds()))
		head = protowire.AppendVarint(protowire.AppendTag(head, fieldTimeout, protowire.VarintType), min(left, maxTimeoutMilliseconds))
	}
	if o.independent {
		head = protowire.AppendVarint(protowire.AppendTag(head, fieldIndependent, protowire.VarintType), 1)
	}
	octets = protowire.AppendTag(octets, fieldOperations, protowire.BytesType)
	octets = protowire.AppendVarint(octets, uint64(len(head)+len(o.body)))
	return append(append(octets, head...), o.body...)
}

// maxTimeoutMilliseconds is the most that an operation may ask for: 10 minutes.
const maxTimeoutMilliseconds = 600_000

// finish fills in the response, or the error of the result's status.
func (o *Operation) finish(result *restantev1.OperationResult) {
	if err := FromStatus(result.GetStatus()); err != nil {
		o.end(err)
		return
	}
	answer := result.ProtoReflect()
	if !answer.Has(o.method.response) {
		o.end(&Error{Code: codes.Internal, Message: "The result holds no response of " + o.method.path + "."})
		return
	}
	o.once.Do(func() {
		share(o.response, answer.Get(o.method.response).Message().Interface())
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
	o.stop()
	if o.cancel != nil {
		o.cancel()
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
