package restante

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

const (
	requestIDOctets  = 16
	firstCallPause   = 100 * time.Millisecond
	longestCallPause = 5 * time.Second
)

// NewRequestID makes a fresh request id: once for a logical call, and kept when that is repeated. Calls by the stubs
// get one where theirs is empty; it is for programs that repeat a call themselves, also after a restart.
func NewRequestID() []byte {
	id := make([]byte, requestIDOctets)
	_, _ = rand.Read(id) // never fails
	return id
}

// Invoke runs a unary RPC; the generated stubs call it. Errors are of the type *Error.
//
// It is made with the client's deadline where ctx has none, gets a request_id and min_commit where it lacks them, and
// is repeated while the failure is temporary (UNAVAILABLE, a lost connection, TOO_MANY_OPERATIONS); a session that has
// expired is renewed once. It travels in the Execute stream beside those of other goroutines, unless gRPC's call
// options (grpc.Header, ...), its size or its kind ask for a call of its own.
func (c *Client) Invoke(ctx context.Context, path string, request, response any, options ...grpc.CallOption) error {
	asked, ok := request.(proto.Message)
	answer, fine := response.(proto.Message)
	if !ok || !fine {
		return &Error{Code: codes.Internal, Message: path + " was called with what is no protobuf message."}
	}
	called := methods()[path]
	if called == nil {
		return &Error{Code: codes.Unimplemented, Message: path + " is no unary RPC of the contract."}
	}
	ctx = c.timed(ctx)
	completed, own := c.completed(called, asked)
	err := c.repeat(ctx, path, completed, answer, c.session, options...)
	if own && errors.Is(err, ReasonEpochChanged) {
		// The store was restored: what was written before may be gone.
		c.forgetCommits()
		completed.ProtoReflect().Clear(called.minCommit)
		err = c.repeat(ctx, path, completed, answer, c.session, options...)
	}
	if err == nil {
		c.remember(called, answer)
	}
	return err
}

// repeat makes a call until it succeeds, fails for good, or its time is over.
func (c *Client) repeat(
	ctx context.Context, path string, request, response proto.Message, by tokenSource, options ...grpc.CallOption,
) error {
	retry := newRetry(firstCallPause, longestCallPause)
	for {
		token := by.token()
		err := c.attempt(ctx, path, request, response, by, options...)
		if err == nil {
			return nil
		}
		failure := asError(err)
		if failure.Reason == ReasonSessionExpired && by == tokenSource(c.session) && retry.renewal() {
			if err := c.renew(ctx, token); err != nil {
				return err
			}
			continue
		}
		if !shouldRepeat(methods()[path], request, failure) || !retry.wait(ctx, failure) {
			if ctx.Err() == context.Canceled {
				return fromContext(ctx.Err())
			}
			return failure
		}
	}
}

// shouldRepeat tells whether a call that failed so may succeed a little later, and do no harm.
func shouldRepeat(called *method, request proto.Message, failure *Error) bool {
	return (isTemporary(failure) || failure.Reason == ReasonTooManyOperations) && mayRepeat(called, request)
}

// attempt makes a call once.
func (c *Client) attempt(
	ctx context.Context, path string, request, response proto.Message, by tokenSource, options ...grpc.CallOption,
) error {
	called := methods()[path]
	if called.request != nil && batchable(options) {
		operation, err := newOperation(ctx, called, request, response, true)
		if err != nil {
			return err
		}
		if operation.octets() <= maxBatchOctets {
			c.operations.start(ctx, operation, by)
			return operation.Wait()
		}
	}
	used, err := c.link.acquire()
	if err != nil {
		return err
	}
	defer c.link.release(used)
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	return FromError(used.Invoke(Authorize(ctx, by.token()), path, request, response, options...))
}

// batchable tells whether a call with these options can be an operation of a batch.
func batchable(options []grpc.CallOption) bool {
	for _, option := range options {
		if _, static := option.(grpc.StaticMethodCallOption); !static {
			return false
		}
	}
	return true
}

// Go hands an operation to the Execute stream and returns at once; the response is filled in when the operation is
// done. path is the name of a unary RPC, such as restantev1.FolderService_GetFolder_FullMethodName.
//
// Operations are sent in the order of these calls, and each begins after the one before has answered, unless
// independent. The stream keeps its bounds: 256 operations and 1 MiB a message, 64 operations in flight (more are held
// back). Where it is lost, what was not answered is sent again on the next. Otherwise the request goes as it is, and
// once: a missing request_id is an error, and nothing is repeated that the server has answered.
func (c *Client) Go(ctx context.Context, path string, request, response proto.Message, options ...GoOption) *Operation {
	independent := false
	for _, option := range options {
		independent = independent || option == Independent
	}
	called := methods()[path]
	ctx = c.timed(ctx)
	var operation *Operation
	var err error
	if called == nil || called.request == nil {
		err = &Error{Code: codes.Unimplemented, Message: path + " is no operation of a batch."}
	} else {
		operation, err = newOperation(ctx, called, request, response, independent)
	}
	if err != nil {
		operation = &Operation{done: make(chan struct{}), err: err}
		close(operation.done)
		return operation
	}
	c.operations.start(ctx, operation, c.session)
	return operation
}

// GoOption changes how [Client.Go] runs an operation.
type GoOption int

// Independent lets an operation begin before those that were handed over earlier have answered.
const Independent GoOption = 1

// limited is a context with the client's deadline where it has none.
func (c *Client) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.config.timeout())
}

// timed is a context that tells the client's deadline where it has none. It needs no timer, and does not end by itself:
// that is for the operation.
func (c *Client) timed(ctx context.Context) context.Context {
	if _, ok := ctx.Deadline(); ok {
		return ctx
	}
	return timedContext{ctx, time.Now().Add(c.config.timeout())}
}

type timedContext struct {
	context.Context
	deadline time.Time
}

func (t timedContext) Deadline() (time.Time, bool) { return t.deadline, true }

// completed is the request with its request_id and min_commit, in a copy where something is added, and whether
// min_commit was.
func (c *Client) completed(called *method, request proto.Message) (proto.Message, bool) {
	given := request.ProtoReflect()
	needsID := called.requestID != nil && len(given.Get(called.requestID).Bytes()) == 0
	var commit *restantev1.CommitToken
	if called.minCommit != nil && !given.Has(called.minCommit) {
		commit = c.MinCommit(given.Get(called.mailboxID).Int())
	}
	if !needsID && commit == nil {
		return request, false
	}
	made := given.New()
	share(made.Interface(), request)
	if needsID {
		made.Set(called.requestID, protoreflect.ValueOfBytes(NewRequestID()))
	}
	if commit != nil {
		made.Set(called.minCommit, protoreflect.ValueOfMessage(commit.ProtoReflect()))
	}
	return made.Interface(), commit != nil
}

// MinCommit is the latest write to a mailbox that this client has seen (0: the session's own mailbox); nil when it has
// seen none. Reads by the stubs carry it; streams take it in their requests.
func (c *Client) MinCommit(mailboxID int64) *restantev1.CommitToken {
	if mailboxID == 0 {
		mailboxID = c.session.present().GetMailboxId()
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.commits[mailboxID]
}

// remember keeps the commit of a write, so that later reads see it.
func (c *Client) remember(called *method, response proto.Message) {
	if called.commit == nil || !response.ProtoReflect().Has(called.commit) {
		return
	}
	commit, ok := response.ProtoReflect().Get(called.commit).Message().Interface().(*restantev1.CommitToken)
	if !ok {
		return
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if known := c.commits[commit.GetMailboxId()]; known == nil || later(commit, known) {
		c.commits[commit.GetMailboxId()] = proto.CloneOf(commit)
	}
}

func later(commit, than *restantev1.CommitToken) bool {
	if commit.GetEpoch() != than.GetEpoch() {
		return commit.GetEpoch() > than.GetEpoch()
	}
	return commit.GetChangeNumber() > than.GetChangeNumber()
}

func (c *Client) forgetCommits() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	clear(c.commits)
}

// retry decides about the attempts of one call or stream.
type retry struct {
	pause, longest time.Duration
	first          time.Duration
	renewed        bool
}

func newRetry(first, longest time.Duration) *retry {
	return &retry{pause: first, longest: longest, first: first}
}

// worked begins anew: an attempt has brought something.
func (r *retry) worked() { r.pause, r.renewed = r.first, false }

// renewal tells whether a session may be renewed, which it may once.
func (r *retry) renewal() bool {
	first := !r.renewed
	r.renewed = true
	return first
}

// delay is how long to wait now, at least as long as the server asks for.
func (r *retry) delay(failure *Error) time.Duration {
	asked, _ := failure.RetryDelay()
	chosen := max(jittered(r.pause), asked)
	r.pause = min(2*r.pause, r.longest)
	return chosen
}

// wait waits before the next attempt, and tells whether there is time for one.
func (r *retry) wait(ctx context.Context, failure *Error) bool {
	delay := r.delay(failure)
	if deadline, ok := ctx.Deadline(); ok && time.Now().Add(delay).After(deadline) {
		return false
	}
	return pause(ctx, delay)
}

// pause tells whether the whole time has passed; the context may end before.
func pause(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
