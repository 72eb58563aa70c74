package restante

import (
	"cmp"
	"context"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

// The bounds of Execute (protos/restante/v1/batch.proto).
const (
	maxBatchOperations = 256
	maxBatchOctets     = 1 << 20
	maxInFlight        = 1_000 // of the 1024 at which the server stops reading
	maxSessionInFlight = 64    // beyond, the server answers TOO_MANY_OPERATIONS
	maxCancels         = 1_000 // in one message; 10 octets each

	expiryInterval = 500 * time.Millisecond
	expiryGrace    = 250 * time.Millisecond // for the server's own answer

	firstPause   = 50 * time.Millisecond
	longestPause = time.Second
)

// multiplexer runs operations of any number of sessions on one Execute stream.
//
// Whatever waits when the stream is free goes into one message; there is no timer. A stream that is lost is replaced,
// and what it had not answered is sent again, in the order it was given. A stream that drains takes nothing new and
// finishes what it has.
type multiplexer struct {
	open     func(ctx context.Context, fresh *connection) (executeCall, *connection, error)
	release  func(*connection)
	patience time.Duration

	mutex   sync.Mutex
	lastID  int64
	lanes   map[tokenSource]*lane
	waiting []*lane        // those that have something to send, first come first served
	stream  *executeStream // takes new operations; nil: none is open
	drained *connection    // of the last stream, where it drained
	streams map[*executeStream]struct{}
	pause   time.Duration
	resting *time.Timer // until the next stream is opened
	trouble *Error      // why the last stream never worked; nil: it did, or none has ended yet

	expiring *time.Timer // until deadlines are looked at; nil: nothing is under way
	closed   bool
}

// lane holds the operations of one session, in order.
type lane struct {
	session  tokenSource
	bounded  bool // as sessions are
	pending  []*Operation
	queued   bool // among multiplexer.waiting
	inFlight int

	// Order holds only on one stream and under one token: what is sent elsewhere waits until these have answered.
	ordered       int
	orderedStream *executeStream
	orderedToken  string
}

// executeStream is one Execute call.
type executeStream struct {
	owner   *multiplexer
	cancel  context.CancelFunc
	used    *connection // set before the first message
	call    executeCall
	wake    chan struct{}
	flying  map[int64]*Operation
	cancels []int64
	retired bool // takes nothing new
	worked  bool
	ended   bool
}

func newMultiplexer(from *link) *multiplexer {
	return &multiplexer{
		open: func(ctx context.Context, drained *connection) (executeCall, *connection, error) {
			if drained != nil {
				from.retire(drained)
			}
			used, err := from.acquire()
			if err != nil {
				return nil, nil, err
			}
			call, err := openExecute(ctx, used)
			return call, used, err
		},
		release:  from.release,
		patience: from.config.patience(),
		lanes:    map[tokenSource]*lane{},
		streams:  map[*executeStream]struct{}{},
		pause:    firstPause,
	}
}

// start hands an operation over. Those of one session are sent in the order of these calls.
func (m *multiplexer) start(ctx context.Context, operation *Operation, session tokenSource) {
	operation.session = session
	if operation.octets() > maxBatchOctets {
		operation.fail(&Error{Code: codes.ResourceExhausted, Message: "The request is larger than a batch may be (1 MiB)."})
		return
	}
	m.mutex.Lock()
	if m.closed {
		m.mutex.Unlock()
		operation.fail(errClosed())
		return
	}
	m.lastID++
	operation.id = m.lastID
	its := m.lanes[session]
	if its == nil {
		its = &lane{session: session, bounded: session != nobody}
		m.lanes[session] = its
	}
	operation.lane = its
	its.pending = append(its.pending, operation)
	if ctx.Done() != nil {
		operation.stop = context.AfterFunc(ctx, func() { m.abandon(operation, fromContext(ctx.Err())) })
	}
	m.queue(its)
	m.kick()
	m.watchDeadlines()
	m.mutex.Unlock()
}

// watchDeadlines has operations end that nobody answers in time, be it that their contexts have no timer of their own.
// The mutex is held.
func (m *multiplexer) watchDeadlines() {
	if m.expiring == nil {
		m.expiring = time.AfterFunc(expiryInterval, m.expire)
	}
}

// expire ends what is late. The server answers in time; this is for when it cannot.
func (m *multiplexer) expire() {
	m.mutex.Lock()
	now, busy := time.Now(), false
	var late []*Operation
	look := func(operation *Operation) {
		busy = true
		if !operation.deadline.IsZero() && now.After(operation.deadline.Add(expiryGrace)) {
			late = append(late, operation)
		}
	}
	for _, its := range m.lanes {
		for _, operation := range its.pending {
			look(operation)
		}
	}
	for stream := range m.streams {
		for _, operation := range stream.flying {
			look(operation)
		}
	}
	m.expiring = nil
	if busy && !m.closed {
		m.watchDeadlines()
	}
	m.mutex.Unlock()
	for _, operation := range late {
		m.abandon(operation, fromContext(context.DeadlineExceeded))
	}
}

// close fails whatever has not been answered.
func (m *multiplexer) close() {
	m.mutex.Lock()
	m.closed = true
	if m.resting != nil {
		m.resting.Stop()
		m.resting = nil
	}
	if m.expiring != nil {
		m.expiring.Stop()
	}
	var left []*Operation
	for _, each := range m.lanes {
		left = append(left, each.pending...)
		each.pending = nil
	}
	for stream := range m.streams {
		for _, operation := range stream.flying {
			left = append(left, operation)
		}
		clear(stream.flying)
		stream.cancel()
	}
	m.waiting, m.stream = nil, nil
	m.mutex.Unlock()
	for _, operation := range left {
		operation.fail(errClosed())
	}
}

// abandon ends an operation for which nobody waits any more. What was sent keeps its place until it is answered, since
// the server counts it.
func (m *multiplexer) abandon(operation *Operation, err *Error) {
	m.mutex.Lock()
	if its := operation.lane; its != nil {
		if stream := operation.stream; stream != nil {
			if _, flying := stream.flying[operation.id]; flying {
				stream.cancels = append(stream.cancels, operation.id)
				stream.nudge()
			}
		} else {
			its.pending = slices.DeleteFunc(its.pending, func(each *Operation) bool { return each == operation })
			m.tidy(its)
		}
	}
	m.mutex.Unlock()
	operation.fail(err)
}

// queue lets a lane have its turn. The mutex is held.
func (m *multiplexer) queue(its *lane) {
	if !its.queued && len(its.pending) > 0 {
		its.queued = true
		m.waiting = append(m.waiting, its)
	}
}

// tidy forgets a lane that has nothing. The mutex is held.
func (m *multiplexer) tidy(its *lane) {
	if len(its.pending) == 0 && its.inFlight == 0 && !its.queued && m.lanes[its.session] == its {
		delete(m.lanes, its.session)
	}
}

// kick has what waits sent: by the stream that is open, or by a new one. The mutex is held.
func (m *multiplexer) kick() {
	switch {
	case m.stream != nil:
		m.stream.nudge()
	case m.resting == nil && !m.closed && len(m.waiting) > 0:
		ctx, cancel := context.WithCancel(context.Background())
		opened := &executeStream{
			owner: m, cancel: cancel, wake: make(chan struct{}, 1), flying: map[int64]*Operation{},
		}
		m.stream = opened
		m.streams[opened] = struct{}{}
		go opened.run(ctx, m.drained)
		m.drained = nil
	}
}

// collect takes what one message may carry, as its octets. The mutex is held.
func (m *multiplexer) collect(stream *executeStream, octets []byte, now time.Time) []byte {
	turn := m.waiting
	m.waiting = nil
	count := 0
	for i, its := range turn {
		if count == maxBatchOperations || len(stream.flying) == maxInFlight {
			m.waiting = append(m.waiting, turn[i:]...)
			break
		}
		its.queued = false
		token := its.session.token()
		full := false
		for len(its.pending) > 0 && its.maySend(its.pending[0], stream, token) {
			next := its.pending[0]
			full = count == maxBatchOperations || len(stream.flying) == maxInFlight ||
				count > 0 && len(octets)+next.octets() > maxBatchOctets
			if full {
				break
			}
			its.pending[0] = nil
			its.pending = its.pending[1:]
			its.sent(next, stream, token)
			stream.flying[next.id] = next
			octets = next.appendTo(octets, token, now)
			count++
		}
		if full {
			m.queue(its)
		}
		m.tidy(its)
	}
	return octets
}

// maySend tells whether an operation may go now.
func (l *lane) maySend(next *Operation, stream *executeStream, token []byte) bool {
	if l.bounded && l.inFlight >= maxSessionInFlight {
		return false
	}
	return next.independent || l.ordered == 0 || l.orderedStream == stream && l.orderedToken == string(token)
}

func (l *lane) sent(operation *Operation, stream *executeStream, token []byte) {
	operation.stream = stream
	l.inFlight++
	if !operation.independent {
		l.ordered++
		l.orderedStream, l.orderedToken = stream, string(token)
	}
}

// settled is the opposite of sent.
func (l *lane) settled(operation *Operation) {
	operation.stream = nil
	l.inFlight--
	if !operation.independent {
		l.ordered--
	}
}

// run opens the call and sends what there is, until the stream ends.
func (s *executeStream) run(ctx context.Context, drained *connection) {
	m := s.owner
	defer s.cancel()
	call, used, err := m.open(ctx, drained)
	if used != nil {
		defer m.release(used)
	}
	if err != nil {
		m.lost(s, asError(err))
		return
	}
	m.mutex.Lock()
	s.call, s.used = call, used
	m.mutex.Unlock()
	received := make(chan struct{})
	go func() {
		defer close(received)
		s.receive()
	}()
	s.send(ctx)
	<-received
}

// send writes until the stream has ended, or has nothing more to do.
func (s *executeStream) send(ctx context.Context) {
	m := s.owner
	var octets []byte
	for {
		m.mutex.Lock()
		some := min(len(s.cancels), maxCancels)
		octets = appendCancels(octets[:0], s.cancels[:some])
		s.cancels = s.cancels[some:]
		if !s.retired && !s.ended {
			octets = m.collect(s, octets, time.Now())
		}
		over := s.ended || s.retired && len(s.flying) == 0
		m.mutex.Unlock()
		switch {
		case len(octets) > 0:
			if err := s.call.Send(octets); err != nil {
				return // the receiving side learns why
			}
		case over:
			_ = s.call.CloseSend() // the receiving side learns of what may be wrong
			return
		default:
			select {
			case <-s.wake:
				runtime.Gosched() // whoever is about to call goes along
			case <-ctx.Done():
				return
			}
		}
	}
}

// receive hands out answers until the stream ends.
func (s *executeStream) receive() {
	for {
		octets, err := s.call.Recv()
		var response *wireResponse
		if err == nil {
			response, err = readResponse(octets)
		}
		if err != nil {
			s.cancel()
			if err == io.EOF {
				s.owner.lost(s, unavailable("The server ended the stream."))
			} else {
				s.owner.lost(s, asError(err))
			}
			return
		}
		for i, operation := range s.owner.answered(s, response) {
			if operation != nil {
				operation.finish(&response.results[i])
			}
		}
	}
}

// answered takes a response into account, and tells whose each of its results is (nil: nobody's).
func (m *multiplexer) answered(stream *executeStream, response *wireResponse) []*Operation {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	stream.worked = true
	m.trouble = nil
	m.pause = firstPause
	operations := make([]*Operation, len(response.results))
	for i := range response.results {
		operation := stream.flying[response.results[i].id]
		if operation == nil {
			continue
		}
		delete(stream.flying, operation.id)
		operations[i] = operation
		operation.lane.settled(operation)
		m.queue(operation.lane)
		m.tidy(operation.lane)
	}
	if response.draining {
		stream.retired = true
		if m.stream == stream {
			m.stream, m.drained = nil, stream.used
		}
	}
	if stream.retired {
		stream.nudge()
	}
	if len(m.waiting) > 0 {
		m.kick()
	}
	return operations
}

// lost takes back what a stream that has ended did not answer: it is sent again by the next one, or fails.
func (m *multiplexer) lost(stream *executeStream, cause *Error) {
	m.mutex.Lock()
	stream.ended = true
	delete(m.streams, stream)
	left := make([]*Operation, 0, len(stream.flying))
	for _, operation := range stream.flying {
		operation.lane.settled(operation)
		left = append(left, operation)
	}
	clear(stream.flying)
	slices.SortFunc(left, func(a, b *Operation) int { return cmp.Compare(a.id, b.id) })
	now, again := time.Now(), !m.closed && isLoss(cause)
	var failed []*Operation
	for i := len(left) - 1; i >= 0; i-- { // from the last on, each before what is there
		operation := left[i]
		if again && operation.repeatable && operation.patient(now, m.patience) {
			operation.lane.pending = slices.Insert(operation.lane.pending, 0, operation)
		} else {
			failed = append(failed, operation)
		}
		m.queue(operation.lane)
	}
	if m.stream == stream {
		m.stream = nil
		if !stream.worked {
			m.trouble = cause
			failed = append(failed, m.impatient(now, isLoss(cause))...)
		}
		m.rest()
	} else {
		m.kick()
	}
	for _, operation := range failed {
		m.tidy(operation.lane)
	}
	m.mutex.Unlock()
	for _, operation := range failed {
		operation.fail(cause)
	}
}

// impatient takes out what has waited too long for a stream, or everything when another will not help. The mutex is
// held.
func (m *multiplexer) impatient(now time.Time, another bool) []*Operation {
	var failed []*Operation
	for _, its := range m.lanes {
		its.pending = slices.DeleteFunc(its.pending, func(operation *Operation) bool {
			if another && operation.patient(now, m.patience) {
				return false
			}
			failed = append(failed, operation)
			return true
		})
	}
	return failed
}

// patient tells whether an operation waits for another stream.
func (o *Operation) patient(now time.Time, patience time.Duration) bool {
	if o.giveUpAt.IsZero() {
		o.giveUpAt = now.Add(patience)
	}
	return now.Before(o.giveUpAt)
}

// connectionTrouble is why no stream could be opened; nil where one works, or none was tried.
func (m *multiplexer) connectionTrouble() *Error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.trouble
}

// rest opens the next stream after a pause, which grows while none works. The mutex is held.
func (m *multiplexer) rest() {
	if m.resting != nil || m.closed {
		return
	}
	m.resting = time.AfterFunc(jittered(m.pause), func() {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		m.resting = nil
		m.kick()
	})
	m.pause = min(2*m.pause, longestPause)
}

// isLoss tells whether a stream ended in a way that another may not.
func isLoss(cause *Error) bool {
	switch cause.Code {
	case codes.Unavailable:
		return true
	case codes.Canceled, codes.Unknown, codes.Internal: // what gRPC says of a connection that broke in the middle
		return cause.Reason == ""
	}
	return false
}

// nudge makes the sending side look again.
func (s *executeStream) nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// jittered is between the half and the whole of a pause.
func jittered(pause time.Duration) time.Duration {
	return pause/2 + rand.N(pause/2+1)
}
