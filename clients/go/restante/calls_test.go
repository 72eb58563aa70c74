package restante

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

func ofReason(reason Reason) *Error {
	code, known := reasonCodes[reason]
	if !known {
		code = codes.Unknown
	}
	return &Error{Code: code, Reason: reason}
}

// statusOf is a status as the server makes it.
func statusOf(t *testing.T, reason Reason, metadata map[string]string, retry time.Duration) *statuspb.Status {
	t.Helper()
	made := &statuspb.Status{Code: int32(reasonCodes[reason]), Message: "A sentence."}
	details := []proto.Message{&errdetails.ErrorInfo{Reason: string(reason), Domain: domain, Metadata: metadata}}
	if retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
	}
	for _, detail := range details {
		packed, err := anypb.New(detail)
		if err != nil {
			t.Fatal(err)
		}
		made.Details = append(made.Details, packed)
	}
	return made
}

func TestAnErrorHasWhatTheStatusTells(t *testing.T) {
	err := FromStatus(statusOf(t, ReasonTooManyAttempts, map[string]string{"retry_seconds": "2"}, 2*time.Second))
	var found *Error
	if !errors.As(err, &found) || found.Code != codes.ResourceExhausted || found.Metadata["retry_seconds"] != "2" {
		t.Fatalf("%#v", err)
	}
	if delay, asked := found.RetryDelay(); !asked || delay != 2*time.Second {
		t.Errorf("the delay is %v", delay)
	}
	if !errors.Is(err, ReasonTooManyAttempts) || errors.Is(err, ReasonQuotaExceeded) {
		t.Error("errors.Is does not tell the reason")
	}
	if err.Error() != "restante: TOO_MANY_ATTEMPTS: A sentence." {
		t.Errorf("it says %q", err)
	}
}

func TestAnErrorNamesAllBadFields(t *testing.T) {
	told := statusOf(t, ReasonInvalidArgument, map[string]string{"field": "columns", "problem": "not known"}, 0)
	for _, test := range []struct {
		violations []*errdetails.BadRequest_FieldViolation
		text       string
	}{
		{
			[]*errdetails.BadRequest_FieldViolation{{Field: "columns", Description: "not known"}},
			"restante: INVALID_ARGUMENT: A sentence.",
		},
		{
			[]*errdetails.BadRequest_FieldViolation{{Field: "password", Description: "too short"}},
			"restante: INVALID_ARGUMENT: A sentence. Bad fields: password (too short).",
		},
		{
			[]*errdetails.BadRequest_FieldViolation{
				{Field: "columns", Description: "not known"}, {Field: "page_size", Description: "negative"},
			},
			"restante: INVALID_ARGUMENT: A sentence. Bad fields: columns (not known); page_size (negative).",
		},
	} {
		packed, err := anypb.New(&errdetails.BadRequest{FieldViolations: test.violations})
		if err != nil {
			t.Fatal(err)
		}
		whole := proto.Clone(told).(*statuspb.Status)
		whole.Details = append(whole.Details, packed)
		inCall := FromError(status.FromProto(whole).Err())
		for _, err := range []error{FromStatus(whole), inCall} {
			var found *Error
			if !errors.As(err, &found) || len(found.Violations) != len(test.violations) {
				t.Fatalf("%#v", err)
			}
			for i, each := range test.violations {
				if found.Violations[i] != (FieldViolation{each.Field, each.Description}) {
					t.Errorf("violation %d is %v, not %v", i, found.Violations[i], each)
				}
			}
			if found.Error() != test.text {
				t.Errorf("it says %q, not %q", found, test.text)
			}
		}
	}
}

func TestErrorsAreThoseOfContexts(t *testing.T) {
	expired, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	if err := FromError(expired.Err()); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := FromStatus(statusOf(t, ReasonCancelled, nil, 0)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if FromStatus(nil) != nil || FromStatus(&statuspb.Status{}) != nil || FromError(nil) != nil {
		t.Error("an error was made of success")
	}
}

func TestWhatIsRepeated(t *testing.T) {
	get, first, later := &restantev1.GetFolderRequest{}, &restantev1.AuthenticateRequest{}, &restantev1.AuthenticateRequest{Exchange: []byte("x")}
	for _, row := range []struct {
		path     string
		request  proto.Message
		failure  *Error
		repeated bool
	}{
		{restantev1.FolderService_GetFolder_FullMethodName, get, ofReason(ReasonStoreBusy), true},
		{restantev1.FolderService_GetFolder_FullMethodName, get, ofReason(ReasonDraining), true},
		{restantev1.FolderService_GetFolder_FullMethodName, get, ofReason(ReasonCommitNotReached), true},
		{restantev1.FolderService_GetFolder_FullMethodName, get, ofReason(ReasonTooManyOperations), true},
		{restantev1.FolderService_GetFolder_FullMethodName, get, unavailable("lost"), true},
		{restantev1.FolderService_GetFolder_FullMethodName, get, ofReason(ReasonFolderNotFound), false},
		{restantev1.FolderService_GetFolder_FullMethodName, get, ofReason(ReasonDeadlineExceeded), false},
		{restantev1.FolderService_GetFolder_FullMethodName, get, ofReason(ReasonInternal), false},
		{restantev1.FolderService_GetFolder_FullMethodName, get, ofReason("FROM_A_NEWER_SERVER"), false},
		{restantev1.MessageService_AppendMessage_FullMethodName, &restantev1.AppendMessageRequest{}, ofReason(ReasonQuotaExceeded), false},
		{restantev1.MessageService_AppendMessage_FullMethodName, &restantev1.AppendMessageRequest{}, ofReason(ReasonStoreFull), false},
		{restantev1.SessionService_Authenticate_FullMethodName, first, ofReason(ReasonTooManyAttempts), false},
		{restantev1.SessionService_Authenticate_FullMethodName, first, ofReason(ReasonStoreBusy), true},
		{restantev1.SessionService_Authenticate_FullMethodName, later, ofReason(ReasonStoreBusy), false},
		{restantev1.SessionService_ChangePassword_FullMethodName, &restantev1.ChangePasswordRequest{}, unavailable("lost"), false},
	} {
		if got := shouldRepeat(methods()[row.path], row.request, row.failure); got != row.repeated {
			t.Errorf("%s after %v: %v", row.path, row.failure, got)
		}
	}
}

func TestAPauseGrowsAndIsAsLongAsTheServerAsks(t *testing.T) {
	retry := newRetry(100*time.Millisecond, 500*time.Millisecond)
	for _, longest := range []time.Duration{100, 200, 400, 500, 500} {
		longest *= time.Millisecond
		if delay := retry.delay(&Error{}); delay < longest/2 || delay > longest {
			t.Errorf("%v where %v is the longest", delay, longest)
		}
	}
	asked := asError(FromStatus(statusOf(t, ReasonStoreBusy, nil, 3*time.Second)))
	if delay := retry.delay(asked); delay != 3*time.Second {
		t.Errorf("%v where 3 s were asked for", delay)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if retry.wait(ctx, asked) {
		t.Error("it waits beyond the deadline")
	}
	if !retry.renewal() || retry.renewal() {
		t.Error("a session is renewed once")
	}
}

// clientOf is a client whose server is the test.
func clientOf(t *testing.T) (*Client, *fakeServer) {
	t.Helper()
	client := newClient(Config{Address: "localhost:1"})
	client.session.info = &restantev1.Session{SessionToken: []byte("t"), MailboxId: 7}
	operations, server := multiplexerOf(t, time.Second, false)
	client.operations = operations
	t.Cleanup(func() { _ = client.Close() })
	return client, server
}

func TestALogicalCallHasOneRequestIDAndLeavesTheRequestAsItIs(t *testing.T) {
	client, server := clientOf(t)
	request := &restantev1.CreateFolderRequest{Path: []string{"Work"}}
	done := make(chan error, 1)
	go func() {
		answer, err := client.Folders().CreateFolder(context.Background(), request)
		if err == nil && answer.GetFolder().GetFolderId() != 12 {
			err = errors.New("not the answer")
		}
		done <- err
	}()
	call := within(t, server.calls, "a stream")
	var ids [][]byte
	for range 3 {
		asked := within(t, call.requests, "a request").GetOperations()[0]
		ids = append(ids, asked.GetCreateFolder().GetRequestId())
		result := &restantev1.OperationResult{OperationId: asked.GetOperationId()}
		if len(ids) < 3 {
			result.Status = statusOf(t, ReasonStoreBusy, nil, 0)
		} else {
			result.Response = &restantev1.OperationResult_CreateFolder{CreateFolder: &restantev1.CreateFolderResponse{
				Folder: &restantev1.Folder{FolderId: 12},
				Commit: &restantev1.CommitToken{MailboxId: 7, ChangeNumber: 40, Epoch: 1},
			}}
		}
		call.answers <- &restantev1.ExecuteResponse{Results: []*restantev1.OperationResult{result}}
	}
	if err := within(t, done, "the answer"); err != nil {
		t.Fatal(err)
	}
	if len(ids[0]) != requestIDOctets || !slices.EqualFunc(ids, [][]byte{ids[0], ids[0], ids[0]}, slices.Equal[[]byte]) {
		t.Errorf("the request ids are %x", ids)
	}
	if len(request.GetRequestId()) != 0 {
		t.Error("the caller's request was changed")
	}

	// What was written is seen by what is read then; what the caller says goes before it.
	go func() {
		_, err := client.Folders().GetFolder(context.Background(), &restantev1.GetFolderRequest{FolderId: 12})
		done <- err
	}()
	read := within(t, call.requests, "a request").GetOperations()[0]
	if commit := read.GetGetFolder().GetMinCommit(); commit.GetChangeNumber() != 40 || commit.GetMailboxId() != 7 {
		t.Errorf("min_commit is %v", commit)
	}
	call.answer(read)
	if err := within(t, done, "the answer"); err != nil {
		t.Fatal(err)
	}
}

func TestACommitFromBeforeARestoreIsForgotten(t *testing.T) {
	client, server := clientOf(t)
	client.commits[7] = &restantev1.CommitToken{MailboxId: 7, ChangeNumber: 40, Epoch: 1}
	done := make(chan error, 1)
	go func() {
		_, err := client.Folders().GetFolder(context.Background(), &restantev1.GetFolderRequest{FolderId: 12})
		done <- err
	}()
	call := within(t, server.calls, "a stream")
	asked := within(t, call.requests, "a request").GetOperations()[0]
	call.answers <- &restantev1.ExecuteResponse{Results: []*restantev1.OperationResult{{
		OperationId: asked.GetOperationId(), Status: statusOf(t, ReasonEpochChanged, nil, 0),
	}}}
	again := within(t, call.requests, "a request").GetOperations()[0]
	if again.GetGetFolder().GetMinCommit() != nil {
		t.Error("the old commit was asked for again")
	}
	call.answer(again)
	if err := within(t, done, "the answer"); err != nil {
		t.Fatal(err)
	}
	if client.MinCommit(0) != nil {
		t.Error("it was not forgotten")
	}
}

func TestPagesFollowTheirTokens(t *testing.T) {
	var tokens []string
	list := func(_ context.Context, request *restantev1.ListFoldersRequest, _ ...grpc.CallOption) (*restantev1.ListFoldersResponse, error) {
		tokens = append(tokens, request.GetPageToken())
		next := map[string]string{"": "second", "second": "third"}[request.GetPageToken()]
		return &restantev1.ListFoldersResponse{NextPageToken: next}, nil
	}
	request, pages := &restantev1.ListFoldersRequest{}, 0
	for _, err := range Pages(context.Background(), list, request) {
		if err != nil {
			t.Fatal(err)
		}
		pages++
	}
	if want := []string{"", "second", "third"}; pages != 3 || !slices.Equal(tokens, want) {
		t.Errorf("%d pages of %v", pages, tokens)
	}
	if !proto.Equal(request, &restantev1.ListFoldersRequest{}) {
		t.Error("the caller's request was changed")
	}
	tooLarge := func(context.Context, *restantev1.ListFoldersRequest, ...grpc.CallOption) (*restantev1.ListFoldersResponse, error) {
		return nil, ofReason(ReasonResultTooLarge)
	}
	for _, err := range Pages(context.Background(), tooLarge, request) {
		if !errors.Is(err, ReasonResultTooLarge) {
			t.Errorf("one row that is too large ends with %v", err)
		}
	}
}
