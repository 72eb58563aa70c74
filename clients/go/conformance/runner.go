package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/restante/restante/clients/go/restante"
	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

const defaultTimeout = 30 * time.Second

// runner does commands.
type runner struct {
	config   restante.Config
	core     *grpc.ClientConn // for bare stubs
	gateways *grpc.ClientConn
	clients  map[string]*restante.Client
	streams  map[string]*stream
}

func newRunner(where hello) (*runner, error) {
	tls, err := restante.TrustCA(where.CA)
	if err != nil {
		return nil, err
	}
	made := &runner{
		config:  restante.Config{Address: where.Target, TLS: tls},
		clients: map[string]*restante.Client{},
		streams: map[string]*stream{},
	}
	if made.core, err = made.config.Dial(); err != nil {
		return nil, err
	}
	gateways := restante.Config{Address: where.GatewayTarget, TLS: tls}
	made.gateways, err = gateways.Dial()
	return made, err
}

func (r *runner) close() {
	for _, each := range r.streams {
		each.stop()
	}
	for _, each := range r.clients {
		_ = each.Close()
	}
	_ = r.core.Close()
	_ = r.gateways.Close()
}

// answer does a command. What is no error of the SDK is a fault of this program, and ends it.
func (r *runner) answer(asked *command) object {
	commands := map[string]func(*command) (object, error){
		"log_on": r.logOn, "resume": r.resume, "session": r.session, "renew": r.renew,
		"change_password": r.changePassword, "log_off": r.logOff, "close": r.closeClient,
		"rpc": r.rpc, "call": r.call, "pages": r.pages, "execute": r.execute, "execute_once": r.executeOnce,
		"upload": r.upload, "read": r.read,
		"watch": r.watch, "sync": r.sync, "next": r.next, "stop": r.stop,
	}
	do, known := commands[asked.Do]
	if !known {
		return object{"unsupported": "there is no command " + asked.Do}
	}
	result, err := do(asked)
	if err != nil {
		return object{"error": shownError(err)}
	}
	return object{"result": result}
}

// shownError is an error as a program that uses the SDK sees it.
func shownError(err error) object {
	var found *restante.Error
	if !errors.As(err, &found) {
		log.Fatalf("not an error of the SDK: %T %v", err, err)
	}
	violations := []object{}
	for _, each := range found.Violations {
		violations = append(violations, object{"field": each.Field, "problem": each.Problem})
	}
	shown := object{
		"code": code.Code(found.Code).String(), "reason": string(found.Reason), "metadata": found.Metadata,
		"message": found.Message, "violations": violations, "text": err.Error(), "type": fmt.Sprintf("%T", err),
	}
	if found.Metadata == nil {
		shown["metadata"] = object{}
	}
	if delay, asked := found.RetryDelay(); asked {
		shown["retry_seconds"] = delay.Seconds()
	}
	return shown
}

func shown(message proto.Message) json.RawMessage {
	text, err := protojson.Marshal(message)
	must(err)
	return text
}

// read makes a message of the judge's.
func read[Message proto.Message](text json.RawMessage, into Message) Message {
	if len(text) > 0 {
		must(protojson.Unmarshal(text, into))
	}
	return into
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func (c *call) context() (context.Context, context.CancelFunc) {
	timeout := defaultTimeout
	if c.TimeoutMilliseconds != nil {
		timeout = time.Duration(*c.TimeoutMilliseconds) * time.Millisecond
	}
	return context.WithTimeout(context.Background(), timeout)
}

// method is one RPC of the contract.
type method struct {
	path      string
	streaming bool
	request   protoreflect.MessageType
	response  protoreflect.MessageType
}

func (c *call) method() method {
	service, name, _ := strings.Cut(c.Method, "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName("restante.v1." + service))
	must(err)
	rpc := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name))
	if rpc == nil {
		log.Fatalf("there is no RPC %s", c.Method)
	}
	request, err := protoregistry.GlobalTypes.FindMessageByName(rpc.Input().FullName())
	must(err)
	response, err := protoregistry.GlobalTypes.FindMessageByName(rpc.Output().FullName())
	must(err)
	return method{"/restante.v1." + c.Method, rpc.IsStreamingServer(), request, response}
}

func (c *call) message() proto.Message { return read(c.Request, c.method().request.New().Interface()) }

// --- The session layer ---

func (r *runner) client(asked *command) *restante.Client {
	name := asked.Session
	if asked.As != nil {
		name = asked.As.Session
	}
	found, ok := r.clients[name]
	if !ok {
		log.Fatalf("there is no session %q", name)
	}
	return found
}

func (r *runner) opened(asked *command, open func(context.Context) (*restante.Client, error)) (object, error) {
	if before, ok := r.clients[asked.Session]; ok {
		delete(r.clients, asked.Session)
		_ = before.Close()
	}
	ctx, cancel := asked.context()
	defer cancel()
	client, err := open(ctx)
	if err != nil {
		return nil, err
	}
	r.clients[asked.Session] = client
	return r.session(asked)
}

func (r *runner) logOn(asked *command) (object, error) {
	return r.opened(asked, func(ctx context.Context) (*restante.Client, error) {
		return restante.LogOn(ctx, r.config, asked.User, asked.Password)
	})
}

func (r *runner) resume(asked *command) (object, error) {
	return r.opened(asked, func(ctx context.Context) (*restante.Client, error) {
		return restante.Resume(ctx, r.config, asked.Token)
	})
}

func (r *runner) session(asked *command) (object, error) {
	return object{"session": shown(r.client(asked).Session())}, nil
}

func (r *runner) renew(asked *command) (object, error) {
	ctx, cancel := asked.context()
	defer cancel()
	if err := r.client(asked).Renew(ctx); err != nil {
		return nil, err
	}
	return r.session(asked)
}

func (r *runner) changePassword(asked *command) (object, error) {
	ctx, cancel := asked.context()
	defer cancel()
	if err := r.client(asked).ChangePassword(ctx, asked.Old, asked.New); err != nil {
		return nil, err
	}
	return r.session(asked)
}

func (r *runner) logOff(asked *command) (object, error) {
	ctx, cancel := asked.context()
	defer cancel()
	return object{}, r.client(asked).LogOff(ctx)
}

func (r *runner) closeClient(asked *command) (object, error) {
	client := r.client(asked)
	delete(r.clients, asked.Session)
	return object{}, client.Close()
}

// --- Calls ---

// caller is a connection, and a context with who calls.
func (r *runner) caller(ctx context.Context, asked *command) (context.Context, *grpc.ClientConn) {
	switch as := asked.As; {
	case as == nil:
		return ctx, r.core
	case as.Identity != "":
		entries := []string{"restante-identity", as.Identity, "restante-secret", as.Secret}
		return metadata.AppendToOutgoingContext(ctx, entries...), r.gateways
	case as.Token != nil:
		return restante.Authorize(ctx, *as.Token), r.core
	default:
		return restante.Authorize(ctx, r.client(asked).Token()), r.core
	}
}

func (r *runner) rpc(asked *command) (object, error) {
	called := asked.method()
	ctx, cancel := asked.context()
	defer cancel()
	ctx, connection := r.caller(ctx, asked)
	if after := asked.CancelAfterMilliseconds; after != nil {
		defer time.AfterFunc(time.Duration(*after)*time.Millisecond, cancel).Stop()
	}
	if !called.streaming {
		response := called.response.New().Interface()
		if err := connection.Invoke(ctx, called.path, asked.message(), response); err != nil {
			return nil, restante.FromError(err)
		}
		return object{"response": shown(response)}, nil
	}
	opened, err := connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, called.path)
	if err != nil {
		return nil, restante.FromError(err)
	}
	if err := opened.SendMsg(asked.message()); err != nil && err != io.EOF { // then receiving says why
		return nil, restante.FromError(err)
	}
	if err := opened.CloseSend(); err != nil {
		return nil, restante.FromError(err)
	}
	responses := []json.RawMessage{}
	for asked.Take == nil || len(responses) < *asked.Take {
		response := called.response.New().Interface()
		err := opened.RecvMsg(response)
		if err == io.EOF {
			return object{"responses": responses, "complete": true}, nil
		}
		if err != nil {
			return nil, restante.FromError(err)
		}
		responses = append(responses, shown(response))
	}
	return object{"responses": responses, "complete": false}, nil
}

func (r *runner) call(asked *command) (object, error) {
	called := asked.method()
	ctx, cancel := asked.context()
	defer cancel()
	response := called.response.New().Interface()
	if err := r.client(asked).Invoke(ctx, called.path, asked.message(), response); err != nil {
		return nil, err
	}
	return object{"response": shown(response)}, nil
}

func (r *runner) pages(asked *command) (object, error) {
	called, client := asked.method(), r.client(asked)
	list := func(ctx context.Context, request proto.Message, options ...grpc.CallOption) (restante.Page, error) {
		response := called.response.New().Interface()
		err := client.Invoke(ctx, called.path, request, response, options...)
		return response.(restante.Page), err
	}
	responses := []json.RawMessage{}
	for page, err := range restante.Pages(context.Background(), list, asked.message()) {
		if err != nil {
			return nil, err
		}
		responses = append(responses, shown(page))
	}
	return object{"responses": responses}, nil
}

func (r *runner) execute(asked *command) (object, error) {
	client := r.client(asked)
	operations := make([]*restante.Operation, len(asked.Operations))
	responses := make([]proto.Message, len(asked.Operations))
	for i, each := range asked.Operations {
		called := each.method()
		ctx, cancel := each.context()
		defer cancel()
		responses[i] = called.response.New().Interface()
		var options []restante.GoOption
		if each.Independent {
			options = append(options, restante.Independent)
		}
		operations[i] = client.Go(ctx, called.path, each.message(), responses[i], options...)
	}
	outcomes := make([]object, len(operations))
	for i, operation := range operations {
		if err := operation.Wait(); err != nil {
			outcomes[i] = object{"error": shownError(err)}
		} else {
			outcomes[i] = object{"response": shown(responses[i])}
		}
	}
	return object{"outcomes": outcomes}, nil
}

func (r *runner) executeOnce(asked *command) (object, error) {
	ctx, cancel := asked.context()
	defer cancel()
	ctx, connection := r.caller(ctx, asked)
	request := &restantev1.ExecuteOnceRequest{}
	for i, each := range asked.Operations {
		operation := &restantev1.Operation{OperationId: int64(i + 1), Independent: each.Independent}
		if each.TimeoutMilliseconds != nil {
			operation.TimeoutMilliseconds = int32(*each.TimeoutMilliseconds)
		}
		if asked.As != nil && asked.As.Session != "" {
			operation.SessionToken = r.client(asked).Token()
		}
		message := each.message().ProtoReflect()
		operation.ProtoReflect().Set(fieldOf(operation, message.Descriptor()), protoreflect.ValueOfMessage(message))
		request.Operations = append(request.Operations, operation)
	}
	response, err := restantev1.NewBatchServiceClient(connection).ExecuteOnce(ctx, request)
	if err != nil {
		return nil, restante.FromError(err)
	}
	outcomes := make([]object, len(response.GetResults()))
	for i, result := range response.GetResults() {
		if err := restante.FromStatus(result.GetStatus()); err != nil {
			outcomes[i] = object{"error": shownError(err)}
			continue
		}
		field := fieldOf(result, asked.Operations[i].method().response.Descriptor())
		outcomes[i] = object{"response": shown(result.ProtoReflect().Get(field).Message().Interface())}
	}
	return object{"outcomes": outcomes}, nil
}

// fieldOf is the field of a message that holds messages of a kind.
func fieldOf(holder proto.Message, kind protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	fields := holder.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if field := fields.Get(i); field.Message() != nil && field.Message().FullName() == kind.FullName() {
			return field
		}
	}
	log.Fatalf("%s is no operation", kind.FullName())
	return nil
}

// --- Octets ---

func (r *runner) upload(asked *command) (object, error) {
	kind := restantev1.UploadKind(restantev1.UploadKind_value[asked.Kind])
	response, err := r.client(asked).UploadFile(context.Background(), kind, asked.Path)
	if err != nil {
		return nil, err
	}
	return object{"response": shown(response)}, nil
}

func (r *runner) read(asked *command) (object, error) {
	var section *restantev1.Section
	if len(asked.Section) > 0 {
		section = read(asked.Section, &restantev1.Section{})
	}
	octets, err := r.client(asked).ReadContent(context.Background(), asked.MessageID, section)
	if err != nil {
		return nil, err
	}
	return object{"octets": octets}, nil
}

// --- Streams ---

// stream is one of the SDK's that is read in the background.
type stream struct {
	events chan streamEvent
	cancel context.CancelFunc
	done   chan struct{}
}

type streamEvent struct {
	result object
	err    error
}

const queuedEvents = 100_000

// run keeps what a sequence gives, for `next`.
func run[Event any](events iter.Seq2[Event, error], cancel context.CancelFunc, show func(Event) any) *stream {
	made := &stream{events: make(chan streamEvent, queuedEvents), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(made.done)
		for event, err := range events {
			if err != nil {
				made.events <- streamEvent{err: err}
				return
			}
			made.events <- streamEvent{result: object{"event": show(event)}}
		}
		made.events <- streamEvent{result: object{"end": true}}
	}()
	return made
}

func (s *stream) stop() {
	s.cancel()
	<-s.done
}

func (r *runner) watch(asked *command) (object, error) {
	ctx, cancel := context.WithCancel(context.Background())
	events := r.client(asked).Watch(ctx, asked.FolderID, restante.WatchOptions{Snapshot: true})
	r.streams[asked.Stream] = run(events, cancel, func(event restante.FolderEvent) any {
		return object{"fresh": event.Fresh, "changes": shown(event.Changes)}
	})
	return object{}, nil
}

func (r *runner) sync(asked *command) (object, error) {
	ctx, cancel := context.WithCancel(context.Background())
	request := &restantev1.SyncMailboxRequest{FolderId: asked.FolderID, Cursor: asked.Cursor, Follow: asked.Follow}
	for _, column := range asked.Columns {
		request.Columns = append(request.Columns, restantev1.MessageColumn(restantev1.MessageColumn_value[column]))
	}
	changes := r.client(asked).Sync(ctx, request)
	r.streams[asked.Stream] = run(changes, cancel, func(change *restantev1.SyncMailboxResponse) any { return shown(change) })
	return object{}, nil
}

func (r *runner) next(asked *command) (object, error) {
	ctx, cancel := asked.context()
	defer cancel()
	select {
	case event := <-r.streams[asked.Stream].events:
		return event.result, event.err
	case <-ctx.Done():
		return object{"event": nil}, nil
	}
}

func (r *runner) stop(asked *command) (object, error) {
	r.streams[asked.Stream].stop()
	delete(r.streams, asked.Stream)
	return object{}, nil
}
