package restante

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

const soon = 5 * time.Second

// fakeServer takes the calls of a multiplexer.
type fakeServer struct {
	test    *testing.T
	calls   chan *fakeCall
	refused error // instead of a call

	mutex   sync.Mutex
	drained []*connection // what was asked to be replaced
}

// fakeCall is one Execute stream, of which the test is the server.
type fakeCall struct {
	context  context.Context
	used     *connection
	requests chan *restantev1.ExecuteRequest
	answers  chan *restantev1.ExecuteResponse
	broken   chan error
	held     chan struct{} // Send waits while it is open
	closed   chan struct{}
	size     int // octets of the largest request
}

func (f *fakeCall) Send(octets []byte) error {
	select {
	case <-f.held:
	case <-f.context.Done():
		return f.context.Err()
	}
	f.size = max(f.size, len(octets))
	read := &restantev1.ExecuteRequest{}
	if err := proto.Unmarshal(octets, read); err != nil {
		return err
	}
	f.requests <- read
	return nil
}

func (f *fakeCall) Recv() ([]byte, error) {
	select {
	case answer := <-f.answers:
		return proto.Marshal(answer)
	case err := <-f.broken:
		return nil, err
	case <-f.context.Done():
		return nil, f.context.Err()
	case <-f.closed:
		return nil, io.EOF
	}
}

func (f *fakeCall) CloseSend() error {
	close(f.closed)
	return nil
}

// multiplexerOf is one whose calls the test serves. `held` are kept from taking requests until they are let go.
func multiplexerOf(t *testing.T, patience time.Duration, held bool) (*multiplexer, *fakeServer) {
	t.Helper()
	server := &fakeServer{test: t, calls: make(chan *fakeCall, 100)}
	made := newMultiplexer(newLink(Config{Patience: patience}))
	made.release = func(*connection) {}
	made.open = func(ctx context.Context, drained *connection) (executeCall, *connection, error) {
		server.mutex.Lock()
		defer server.mutex.Unlock()
		if drained != nil {
			server.drained = append(server.drained, drained)
		}
		if server.refused != nil {
			return nil, nil, server.refused
		}
		call := &fakeCall{
			context: ctx, used: &connection{},
			requests: make(chan *restantev1.ExecuteRequest, 10_000), answers: make(chan *restantev1.ExecuteResponse),
			broken: make(chan error), held: make(chan struct{}), closed: make(chan struct{}),
		}
		if !held {
			close(call.held)
		}
		server.calls <- call
		return call, call.used, nil
	}
	t.Cleanup(made.close)
	return made, server
}

func within[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(soon):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

func quiet[T any](t *testing.T, from <-chan T, what string) {
	t.Helper()
	select {
	case value := <-from:
		t.Fatalf("%s came: %v", what, value)
	case <-time.After(50 * time.Millisecond):
	}
}

type fixedToken struct{ octets []byte }

func (f *fixedToken) token() []byte { return f.octets }

// started hands over an operation of GetFolder, whose folder_id tells it apart.
func started(t *testing.T, m *multiplexer, session tokenSource, number int64, independent bool) (*Operation, *restantev1.GetFolderResponse) {
	t.Helper()
	return startedWith(t, context.Background(), m, session, &restantev1.GetFolderRequest{FolderId: number}, independent)
}

func startedWith(
	t *testing.T, ctx context.Context, m *multiplexer, session tokenSource, request *restantev1.GetFolderRequest, independent bool,
) (*Operation, *restantev1.GetFolderResponse) {
	t.Helper()
	response := &restantev1.GetFolderResponse{}
	operation, err := newOperation(ctx, methods()[restantev1.FolderService_GetFolder_FullMethodName], request, response, independent)
	if err != nil {
		t.Fatal(err)
	}
	m.start(ctx, operation, session)
	return operation, response
}

// numbers are the folder_ids of what a request asks for.
func numbers(request *restantev1.ExecuteRequest) []int64 {
	var found []int64
	for _, each := range request.GetOperations() {
		found = append(found, each.GetGetFolder().GetFolderId())
	}
	return found
}

// answer answers operations, each with the folder that it asked for.
func (f *fakeCall) answer(operations ...*restantev1.Operation) {
	response := &restantev1.ExecuteResponse{}
	for _, each := range operations {
		response.Results = append(response.Results, &restantev1.OperationResult{
			OperationId: each.GetOperationId(),
			Response: &restantev1.OperationResult_GetFolder{GetFolder: &restantev1.GetFolderResponse{
				Folder: &restantev1.Folder{FolderId: each.GetGetFolder().GetFolderId()},
			}},
		})
	}
	f.answers <- response
}

func TestAnAnswerReachesWhoAsked(t *testing.T) {
	m, server := multiplexerOf(t, time.Second, false)
	alice := &fixedToken{[]byte("alice's")}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	first, one := startedWith(t, ctx, m, alice, &restantev1.GetFolderRequest{FolderId: 1}, false)
	call := within(t, server.calls, "a stream")
	asked := within(t, call.requests, "a request").GetOperations()[0]
	if string(asked.GetSessionToken()) != "alice's" || asked.GetIndependent() {
		t.Errorf("sent as %v", asked)
	}
	if left := asked.GetTimeoutMilliseconds(); left < 50_000 || left > 60_000 {
		t.Errorf("the deadline of the context went as %d ms", left)
	}
	second, two := started(t, m, alice, 2, true)
	other := within(t, call.requests, "a request").GetOperations()[0]
	if !other.GetIndependent() {
		t.Error("the second was not marked independent")
	}
	call.answer(other, asked)
	if err := errors.Join(first.Wait(), second.Wait()); err != nil {
		t.Fatal(err)
	}
	if one.GetFolder().GetFolderId() != 1 || two.GetFolder().GetFolderId() != 2 {
		t.Errorf("answers %v and %v", one, two)
	}
}

func TestAMessageHoldsAtMost256Operations(t *testing.T) {
	m, server := multiplexerOf(t, time.Second, true)
	for number := range int64(600) {
		started(t, m, nobody, number, true)
	}
	call := within(t, server.calls, "a stream")
	close(call.held)
	var sent []int64
	for len(sent) < 600 {
		some := numbers(within(t, call.requests, "a request"))
		if len(some) > maxBatchOperations {
			t.Fatalf("%d operations in one message", len(some))
		}
		sent = append(sent, some...)
	}
	for i, number := range sent {
		if number != int64(i) {
			t.Fatalf("operation %d was sent at place %d", number, i)
		}
	}
}

func TestAMessageHoldsAtMost1MiB(t *testing.T) {
	m, server := multiplexerOf(t, time.Second, true)
	long := []string{string(make([]byte, 300_000))}
	for number := range int64(10) {
		startedWith(t, context.Background(), m, nobody, &restantev1.GetFolderRequest{FolderId: number, Path: long}, true)
	}
	call := within(t, server.calls, "a stream")
	close(call.held)
	for count := 0; count < 10; {
		count += len(within(t, call.requests, "a request").GetOperations())
	}
	if call.size > maxBatchOctets || call.size < 2*300_000 {
		t.Errorf("the largest message had %d octets", call.size)
	}
}

func TestAnOperationAbove1MiBIsRefusedAndHurtsNoOther(t *testing.T) {
	m, server := multiplexerOf(t, time.Second, false)
	long := []string{string(make([]byte, maxBatchOctets))}
	large, _ := startedWith(t, context.Background(), m, nobody, &restantev1.GetFolderRequest{Path: long}, true)
	if err := large.Wait(); asError(err).Code != codes.ResourceExhausted {
		t.Errorf("it ended with %v", err)
	}
	small, _ := started(t, m, nobody, 1, true)
	call := within(t, server.calls, "a stream")
	call.answer(within(t, call.requests, "a request").GetOperations()...)
	if err := small.Wait(); err != nil {
		t.Error(err)
	}
}

func TestAStreamHasAtMost1000InFlight(t *testing.T) {
	m, server := multiplexerOf(t, time.Second, false)
	for number := range int64(maxInFlight + 5) {
		started(t, m, nobody, number, true)
	}
	call := within(t, server.calls, "a stream")
	var sent []*restantev1.Operation
	for len(sent) < maxInFlight {
		sent = append(sent, within(t, call.requests, "a request").GetOperations()...)
	}
	if len(sent) > maxInFlight {
		t.Fatalf("%d in flight", len(sent))
	}
	quiet(t, call.requests, "an operation beyond the bound")
	call.answer(sent[7], sent[3])
	if more := numbers(within(t, call.requests, "a request")); len(more) != 2 || more[0] != maxInFlight {
		t.Errorf("for two answers %v were sent", more)
	}
}

func TestASessionHasAtMost64InFlightAndKeepsItsOrder(t *testing.T) {
	m, server := multiplexerOf(t, time.Second, false)
	alice, bob := &fixedToken{[]byte("a")}, &fixedToken{[]byte("b")}
	for number := range int64(200) {
		started(t, m, alice, number, false)
	}
	call := within(t, server.calls, "a stream")
	var sent []*restantev1.Operation
	for len(sent) < maxSessionInFlight {
		sent = append(sent, within(t, call.requests, "a request").GetOperations()...)
	}
	if len(sent) != maxSessionInFlight {
		t.Fatalf("%d in flight", len(sent))
	}
	started(t, m, bob, 1_000, false)
	if other := numbers(within(t, call.requests, "a request")); len(other) != 1 || other[0] != 1_000 {
		t.Fatalf("another session's was held back: %v came", other)
	}
	for number := range int64(200) {
		if sent[0].GetGetFolder().GetFolderId() != number {
			t.Fatalf("operation %d was sent at place %d", sent[0].GetGetFolder().GetFolderId(), number)
		}
		call.answer(sent[0])
		sent = sent[1:]
		if number < 200-maxSessionInFlight {
			sent = append(sent, within(t, call.requests, "a request").GetOperations()...)
		}
	}
}

func TestADrainingStreamFinishesAndNewOperationsGoByAFreshConnection(t *testing.T) {
	m, server := multiplexerOf(t, time.Second, false)
	alice := &fixedToken{[]byte("a")}
	old, _ := started(t, m, alice, 1, true)
	first := within(t, server.calls, "a stream")
	asked := within(t, first.requests, "a request").GetOperations()[0]
	first.answers <- &restantev1.ExecuteResponse{Draining: true}
	var fresh *Operation
	for {
		fresh, _ = started(t, m, alice, 2, true)
		var second *fakeCall
		select {
		case second = <-server.calls:
		case late := <-first.requests: // it was quicker than the news
			first.answer(late.GetOperations()...)
			continue
		case <-time.After(soon):
			t.Fatal("no second stream came")
		}
		second.answer(within(t, second.requests, "a request").GetOperations()...)
		break
	}
	if err := fresh.Wait(); err != nil {
		t.Fatal(err)
	}
	quiet(t, old.Done(), "the end of the old operation")
	first.answer(asked)
	if err := old.Wait(); err != nil {
		t.Error(err)
	}
	within(t, first.closed, "the end of the old stream")
	server.mutex.Lock()
	defer server.mutex.Unlock()
	if len(server.drained) != 1 || server.drained[0] != first.used {
		t.Error("the second stream did not ask for a fresh connection")
	}
}

func TestOrderHoldsFromOneStreamToTheNext(t *testing.T) {
	m, server := multiplexerOf(t, time.Second, false)
	alice := &fixedToken{[]byte("a")}
	started(t, m, alice, 1, false)
	first := within(t, server.calls, "a stream")
	asked := within(t, first.requests, "a request").GetOperations()[0]
	first.answers <- &restantev1.ExecuteResponse{Draining: true}
	for {
		m.mutex.Lock()
		retired := m.stream == nil
		m.mutex.Unlock()
		if retired {
			break
		}
		time.Sleep(time.Millisecond)
	}
	started(t, m, alice, 2, false)
	second := within(t, server.calls, "a second stream")
	quiet(t, second.requests, "the second operation, before the first has answered,")
	first.answer(asked)
	if next := numbers(within(t, second.requests, "a request")); len(next) != 1 || next[0] != 2 {
		t.Errorf("%v came", next)
	}
}

func TestOrderHoldsFromOneTokenToTheNext(t *testing.T) {
	m, server := multiplexerOf(t, time.Second, false)
	alice := &fixedToken{[]byte("a")}
	started(t, m, alice, 1, false)
	call := within(t, server.calls, "a stream")
	asked := within(t, call.requests, "a request").GetOperations()[0]
	m.mutex.Lock()
	alice.octets = []byte("fresh") // the server takes it for another session
	m.mutex.Unlock()
	started(t, m, alice, 2, false)
	quiet(t, call.requests, "the second operation, before the first has answered,")
	call.answer(asked)
	next := within(t, call.requests, "a request").GetOperations()
	if len(next) != 1 || string(next[0].GetSessionToken()) != "fresh" {
		t.Errorf("%v came", next)
	}
}

func TestWhatALostStreamDidNotAnswerIsSentAgainInOrder(t *testing.T) {
	m, server := multiplexerOf(t, time.Minute, false)
	alice := &fixedToken{[]byte("a")}
	var operations []*Operation
	for number := range int64(100) {
		operation, _ := started(t, m, alice, number, false)
		operations = append(operations, operation)
	}
	first := within(t, server.calls, "a stream")
	var sent []*restantev1.Operation
	for len(sent) < maxSessionInFlight {
		sent = append(sent, within(t, first.requests, "a request").GetOperations()...)
	}
	first.answer(sent[0])
	if err := operations[0].Wait(); err != nil {
		t.Fatal(err)
	}
	first.broken <- &Error{Code: codes.Unavailable, Message: "the line was cut"}
	second := within(t, server.calls, "a second stream")
	for number := int64(1); number < 100; {
		for _, each := range within(t, second.requests, "a request").GetOperations() {
			if each.GetGetFolder().GetFolderId() != number {
				t.Fatalf("operation %d was sent at place %d", each.GetGetFolder().GetFolderId(), number)
			}
			second.answer(each)
			number++
		}
	}
	for _, operation := range operations {
		if err := operation.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestALaterStepOfAnExchangeIsNotSentAgain(t *testing.T) {
	m, server := multiplexerOf(t, time.Minute, false)
	step := &restantev1.AuthenticateRequest{Mechanism: "LOGIN", Exchange: []byte("sealed")}
	operation, err := newOperation(
		context.Background(), methods()[restantev1.SessionService_Authenticate_FullMethodName], step,
		&restantev1.AuthenticateResponse{}, true)
	if err != nil {
		t.Fatal(err)
	}
	m.start(context.Background(), operation, nobody)
	call := within(t, server.calls, "a stream")
	within(t, call.requests, "a request")
	call.broken <- &Error{Code: codes.Unavailable}
	if err := operation.Wait(); asError(err).Code != codes.Unavailable {
		t.Errorf("it ended with %v", err)
	}
}

func TestAServerThatCannotBeReachedFailsOperationsWhenPatienceEnds(t *testing.T) {
	m, server := multiplexerOf(t, 200*time.Millisecond, false)
	server.refused = &Error{Code: codes.Unavailable, Message: "nobody is there"}
	began := time.Now()
	operation, _ := started(t, m, nobody, 1, true)
	err := operation.Wait()
	if took := time.Since(began); asError(err).Code != codes.Unavailable || took < 200*time.Millisecond || took > soon {
		t.Errorf("it ended with %v after %v", err, took)
	}
}

func TestAStreamThatIsRefusedForGoodFailsWhatWaits(t *testing.T) {
	m, server := multiplexerOf(t, time.Minute, false)
	server.refused = &Error{Code: codes.Unauthenticated, Reason: ReasonInvalidSession}
	operation, _ := started(t, m, nobody, 1, true)
	within(t, operation.Done(), "the end")
	if err := operation.Wait(); !errors.Is(err, ReasonInvalidSession) {
		t.Errorf("it ended with %v", err)
	}
}

func TestACancelledOperationIsGivenUpAndKeepsItsPlaceUntilItIsAnswered(t *testing.T) {
	m, server := multiplexerOf(t, time.Second, false)
	alice := &fixedToken{[]byte("a")}
	ctx, cancel := context.WithCancel(context.Background())
	operation, response := startedWith(t, ctx, m, alice, &restantev1.GetFolderRequest{FolderId: 1}, false)
	call := within(t, server.calls, "a stream")
	asked := within(t, call.requests, "a request").GetOperations()[0]
	for number := range int64(maxSessionInFlight) {
		started(t, m, alice, 2+number, false)
	}
	var others []*restantev1.Operation
	for len(others) < maxSessionInFlight-1 {
		others = append(others, within(t, call.requests, "a request").GetOperations()...)
	}
	cancel()
	if err := operation.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	told := within(t, call.requests, "word of it")
	if ids := told.GetCancelOperationIds(); len(ids) != 1 || ids[0] != asked.GetOperationId() || len(told.GetOperations()) != 0 {
		t.Errorf("the server was told %v", told)
	}
	call.answer(asked)
	if more := numbers(within(t, call.requests, "a request")); len(more) != 1 {
		t.Errorf("for one answer %v were sent", more)
	}
	if response.GetFolder() != nil {
		t.Error("the late answer was filled in")
	}
}

func TestACancelledOperationThatWaitsIsNeverSent(t *testing.T) {
	m, server := multiplexerOf(t, time.Second, true)
	started(t, m, nobody, 1, true)
	call := within(t, server.calls, "a stream")
	for { // the first is on its way, and the stream is not free
		m.mutex.Lock()
		taken := m.stream != nil && len(m.stream.flying) == 1
		m.mutex.Unlock()
		if taken {
			break
		}
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	late, _ := startedWith(t, ctx, m, nobody, &restantev1.GetFolderRequest{FolderId: 2}, true)
	if err := late.Wait(); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("it ended with %v", err)
	}
	started(t, m, nobody, 3, true)
	close(call.held)
	var sent []int64
	for len(sent) < 2 {
		sent = append(sent, numbers(within(t, call.requests, "a request"))...)
	}
	if sent[0] != 1 || sent[1] != 3 {
		t.Errorf("%v were sent", sent)
	}
}

func TestClosingFailsWhatIsUnanswered(t *testing.T) {
	m, server := multiplexerOf(t, time.Second, false)
	flying, _ := started(t, m, nobody, 1, true)
	call := within(t, server.calls, "a stream")
	within(t, call.requests, "a request")
	m.close()
	after, _ := started(t, m, nobody, 2, true)
	for _, operation := range []*Operation{flying, after} {
		within(t, operation.Done(), "the end")
		if err := operation.Wait(); asError(err).Code != codes.Canceled {
			t.Errorf("it ended with %v", err)
		}
	}
	within(t, call.context.Done(), "the end of the stream")
}

func TestAnOperationThatNobodyAnswersEndsWithoutATimerOfItsOwn(t *testing.T) {
	m, server := multiplexerOf(t, time.Second, false)
	ctx := timedContext{context.Background(), time.Now().Add(100 * time.Millisecond)}
	operation, _ := startedWith(t, ctx, m, nobody, &restantev1.GetFolderRequest{FolderId: 1}, true)
	call := within(t, server.calls, "a stream")
	within(t, call.requests, "a request")
	within(t, operation.Done(), "the end")
	if err := operation.Wait(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
	if told := within(t, call.requests, "word of it"); len(told.GetCancelOperationIds()) != 1 {
		t.Errorf("the server was told %v", told)
	}
}

func TestAnAnswerThatIsMalformedFailsWhatWaitsForIt(t *testing.T) {
	for _, octets := range [][]byte{{0x0a, 0x05, 0x08}, {0xff}, {0x0a, 0x02, 0x12, 0x09}} {
		if _, err := readResponse(octets); asError(err).Code != codes.Internal {
			t.Errorf("% x was read: %v", octets, err)
		}
	}
	made := &restantev1.ExecuteResponse{Draining: true, Results: []*restantev1.OperationResult{{OperationId: -1}}}
	made.ProtoReflect().SetUnknown([]byte{0x7d, 1, 2, 3, 4, 0x78, 5}) // fields 15 of a newer server
	octets, err := proto.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	read, err := readResponse(octets)
	if err != nil || !read.draining || len(read.results) != 1 || read.results[0].id != -1 || read.results[0].answered {
		t.Errorf("%+v, %v", read, err)
	}
}
