package restante

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
)

// NewStream begins a streaming RPC as this client's session; the generated stubs call it. It is made once, and its
// errors are of the type *Error. As with any gRPC stream, ctx must be cancelled or the stream read to its end.
func (c *Client) NewStream(
	ctx context.Context, description *grpc.StreamDesc, path string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	used, err := c.link.acquire()
	if err != nil {
		return nil, err
	}
	opened, err := used.NewStream(Authorize(ctx, c.session.token()), description, path, options...)
	if err != nil {
		c.link.release(used)
		return nil, FromError(err)
	}
	context.AfterFunc(opened.Context(), func() { c.link.release(used) }) // gRPC ends it with the stream
	return clientStream{opened}, nil
}

// clientStream makes gRPC's errors those of this package.
type clientStream struct{ grpc.ClientStream }

func (s clientStream) SendMsg(message any) error { return FromError(s.ClientStream.SendMsg(message)) }
func (s clientStream) RecvMsg(message any) error { return FromError(s.ClientStream.RecvMsg(message)) }
func (s clientStream) CloseSend() error          { return FromError(s.ClientStream.CloseSend()) }

// errStop says that the reader of a stream wants no more.
var errStop = errors.New("no more is wanted")

// resumed runs streams, one after the other, until one ends by itself. `stream` begins where the last message left off,
// calls `told` for each message, and returns nil at the end; its context ends with it. What is only temporary, and a
// session that has expired, is followed by another stream, unless they have failed at once for the client's timeout.
// A reader that wants no more makes `stream` return errStop, which is returned as nil.
func (c *Client) resumed(ctx context.Context, stream func(ctx context.Context, told func()) error) error {
	retry := newRetry(firstCallPause, longestCallPause)
	var failingSince time.Time
	for {
		token, began := c.session.token(), time.Now()
		err := func() error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			return stream(ctx, func() {
				retry.worked()
				failingSince = time.Time{}
			})
		}()
		if err == nil || errors.Is(err, errStop) {
			return nil
		}
		failure := asError(err)
		if failure.Reason == ReasonSessionExpired && retry.renewal() {
			if err := c.renew(ctx, token); err != nil {
				return err
			}
			continue
		}
		now := time.Now()
		if failingSince.IsZero() || now.Sub(began) > longestCallPause { // it worked, if in silence
			failingSince = now
			retry.worked()
		}
		delay := retry.delay(failure)
		if !isTemporary(failure) || now.Add(delay).After(failingSince.Add(c.config.timeout())) {
			return failure
		}
		if !pause(ctx, delay) {
			return fromContext(ctx.Err())
		}
	}
}
