package restante

import (
	"context"
	"encoding/base64"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// retiredFor is how long an old connection may finish what it has.
const retiredFor = 10 * time.Minute

// link keeps the connection to the server. A stream that drained asks for a fresh one, which may reach another
// server; the old one is closed when nothing uses it any more.
type link struct {
	config Config

	mutex   sync.Mutex
	current *connection
	retired map[*connection]*time.Timer
	closed  bool
}

type connection struct {
	*grpc.ClientConn
	users int
}

func newLink(config Config) *link {
	return &link{config: config, retired: map[*connection]*time.Timer{}}
}

// acquire gives the present connection. Each must be released, once.
func (l *link) acquire() (*connection, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.closed {
		return nil, errClosed()
	}
	if l.current == nil {
		opened, err := l.config.Dial()
		if err != nil {
			return nil, &Error{Code: codes.InvalidArgument, Message: err.Error()}
		}
		l.current = &connection{ClientConn: opened}
	}
	l.current.users++
	return l.current, nil
}

func (l *link) release(used *connection) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	used.users--
	if timer, old := l.retired[used]; old && used.users == 0 {
		timer.Stop()
		l.drop(used)
	}
}

// retire makes acquire give a fresh connection from now on, unless it does so already.
func (l *link) retire(old *connection) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.current != old || l.closed {
		return
	}
	l.current = nil
	l.retired[old] = time.AfterFunc(retiredFor, func() {
		l.mutex.Lock()
		defer l.mutex.Unlock()
		l.drop(old)
	})
	if old.users == 0 {
		l.retired[old].Stop()
		l.drop(old)
	}
}

// drop closes a retired connection. The mutex is held.
func (l *link) drop(old *connection) {
	if _, known := l.retired[old]; known {
		delete(l.retired, old)
		_ = old.Close() // says only that it was closed before
	}
}

func (l *link) close() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.closed = true
	for old, timer := range l.retired {
		timer.Stop()
		l.drop(old)
	}
	if l.current != nil {
		_ = l.current.Close() // says only that it was closed before
		l.current = nil
	}
}

func errClosed() *Error { return &Error{Code: codes.Canceled, Message: "The client was closed."} }

// Authorize adds a session token to the metadata of calls that are made with the context on a plain connection.
func Authorize(ctx context.Context, token []byte) context.Context {
	if len(token) == 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+base64.RawURLEncoding.EncodeToString(token))
}
