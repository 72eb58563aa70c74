package restante

import (
	"context"
	"time"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

// The messages of Execute are written and read here by hand, as far as they envelop requests and responses. So a request
// is encoded where it is called, once, the stream only joins octets, and a response is decoded into what its caller has
// for it, without a copy.

// Numbers of fields (protos/restante/v1/batch.proto).
const (
	requestOperations protowire.Number = 1 // of ExecuteRequest
	requestCancels    protowire.Number = 2

	operationID          protowire.Number = 1 // of Operation
	operationToken       protowire.Number = 2
	operationTimeout     protowire.Number = 3
	operationIndependent protowire.Number = 4

	responseResults  protowire.Number = 1 // of ExecuteResponse
	responseDraining protowire.Number = 2

	resultID     protowire.Number = 1 // of OperationResult
	resultStatus protowire.Number = 2
)

// maxTimeoutMilliseconds is the most that an operation may ask for: 10 minutes.
const maxTimeoutMilliseconds = 600_000

// headOctets are enough for an operation but for its request, with a token of 64 octets.
const headOctets = 112

// octets is the most that the operation takes of a message.
func (o *Operation) octets() int { return len(o.body) + headOctets }

// appendTo adds the operation to the octets of an ExecuteRequest.
func (o *Operation) appendTo(octets []byte, token []byte, now time.Time) []byte {
	var timeout uint64
	if !o.deadline.IsZero() {
		timeout = min(uint64(max(1, o.deadline.Sub(now).Milliseconds())), maxTimeoutMilliseconds)
	}
	size := protowire.SizeTag(operationID) + protowire.SizeVarint(uint64(o.id)) + len(o.body)
	if len(token) > 0 {
		size += protowire.SizeTag(operationToken) + protowire.SizeBytes(len(token))
	}
	if timeout > 0 {
		size += protowire.SizeTag(operationTimeout) + protowire.SizeVarint(timeout)
	}
	if o.independent {
		size += protowire.SizeTag(operationIndependent) + protowire.SizeVarint(1)
	}
	octets = protowire.AppendTag(octets, requestOperations, protowire.BytesType)
	octets = protowire.AppendVarint(octets, uint64(size))
	octets = protowire.AppendTag(octets, operationID, protowire.VarintType)
	octets = protowire.AppendVarint(octets, uint64(o.id))
	if len(token) > 0 {
		octets = protowire.AppendTag(octets, operationToken, protowire.BytesType)
		octets = protowire.AppendBytes(octets, token)
	}
	if timeout > 0 {
		octets = protowire.AppendTag(octets, operationTimeout, protowire.VarintType)
		octets = protowire.AppendVarint(octets, timeout)
	}
	if o.independent {
		octets = protowire.AppendTag(octets, operationIndependent, protowire.VarintType)
		octets = protowire.AppendVarint(octets, 1)
	}
	return append(octets, o.body...)
}

// appendCancels adds what is to be given up to the octets of an ExecuteRequest.
func appendCancels(octets []byte, ids []int64) []byte {
	for _, id := range ids {
		octets = protowire.AppendTag(octets, requestCancels, protowire.VarintType)
		octets = protowire.AppendVarint(octets, uint64(id))
	}
	return octets
}

// wireResponse is an ExecuteResponse. Its results share the octets that it was read from.
type wireResponse struct {
	results  []wireResult
	draining bool
}

// wireResult is an OperationResult.
type wireResult struct {
	id       int64
	status   []byte           // empty: nothing went wrong
	failed   bool             // it has a status
	response []byte           // of the field
	field    protowire.Number // its place in the oneof
	answered bool             // it has a response
}

// failure is the error of its status, nil without one.
func (r *wireResult) failure() error {
	if !r.failed {
		return nil
	}
	status := &statuspb.Status{}
	if err := proto.Unmarshal(r.status, status); err != nil {
		return &Error{Code: codes.Internal, Message: err.Error()}
	}
	return FromStatus(status)
}

// readResponse reads the octets of an ExecuteResponse; fields that are not known are passed over.
func readResponse(octets []byte) (*wireResponse, error) {
	read := &wireResponse{}
	err := eachField(octets, func(number protowire.Number, value []byte, integer uint64) error {
		switch number {
		case responseResults:
			result, err := readResult(value)
			read.results = append(read.results, result)
			return err
		case responseDraining:
			read.draining = integer != 0
		}
		return nil
	})
	return read, err
}

func readResult(octets []byte) (wireResult, error) {
	var read wireResult
	err := eachField(octets, func(number protowire.Number, value []byte, integer uint64) error {
		switch {
		case number == resultID:
			read.id = int64(integer)
		case number == resultStatus:
			read.status, read.failed = value, true
		case value != nil:
			read.field, read.response, read.answered = number, value, true
		}
		return nil
	})
	return read, err
}

// eachField tells the fields of a message: octets (not nil) or an integer. Other types are passed over.
func eachField(octets []byte, told func(number protowire.Number, value []byte, integer uint64) error) error {
	for len(octets) > 0 {
		number, kind, size := protowire.ConsumeTag(octets)
		if size < 0 {
			return malformed(size)
		}
		octets = octets[size:]
		var value []byte
		var integer uint64
		switch kind {
		case protowire.BytesType:
			value, size = protowire.ConsumeBytes(octets)
		case protowire.VarintType:
			integer, size = protowire.ConsumeVarint(octets)
		default:
			size = protowire.ConsumeFieldValue(number, kind, octets)
		}
		if size < 0 {
			return malformed(size)
		}
		octets = octets[size:]
		if kind == protowire.BytesType || kind == protowire.VarintType {
			if err := told(number, value, integer); err != nil {
				return err
			}
		}
	}
	return nil
}

func malformed(size int) error {
	return &Error{Code: codes.Internal, Message: protowire.ParseError(size).Error()}
}

// executeCall is an Execute stream as the multiplexer needs it: of messages that are encoded.
type executeCall interface {
	Send(octets []byte) error
	Recv() ([]byte, error)
	CloseSend() error
}

// openExecute begins an Execute stream on a connection.
func openExecute(ctx context.Context, on grpc.ClientConnInterface) (executeCall, error) {
	description := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	stream, err := on.NewStream(ctx, description, restantev1.BatchService_Execute_FullMethodName, grpc.StaticMethod())
	if err != nil {
		return nil, err
	}
	return wireStream{stream}, nil
}

// wireStream carries encoded messages: for gRPC they are fields that an empty message does not know.
type wireStream struct{ stream grpc.ClientStream }

func (w wireStream) Send(octets []byte) error {
	message := &emptypb.Empty{}
	message.ProtoReflect().SetUnknown(octets)
	return w.stream.SendMsg(message)
}

func (w wireStream) Recv() ([]byte, error) {
	message := &emptypb.Empty{}
	err := w.stream.RecvMsg(message)
	return message.ProtoReflect().GetUnknown(), err
}

func (w wireStream) CloseSend() error { return w.stream.CloseSend() }
