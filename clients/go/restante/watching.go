package restante

import (
	"context"
	"io"
	"sync"
	"time"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

const (
	maxNotices        = 10_000 // that a reader has not taken: beyond, it reads anew
	longestWatchPause = 2 * time.Second
)

// watchStream is the one Watch stream of a client, on which it subscribes to any number of folders and mailboxes. It
// is opened with the first subscription, opened again whenever it breaks, and each subscription resumes from what it
// has been told.
type watchStream struct {
	client *Client

	mutex    sync.Mutex
	lastID   int64
	watching map[int64]*subscription
	requests []*restantev1.WatchRequest // that have not been sent
	wake     chan struct{}
	running  bool
	open     bool // requests are taken from the queue
}

// subscription is one thing that is watched. Its notices wait until they are taken.
type subscription struct {
	id, mailboxID, folderID int64
	since, epoch            int64

	mutex   sync.Mutex
	notices []*restantev1.WatchResponse
	late    bool
	arrived chan struct{}
}

func newWatchStream(client *Client) *watchStream {
	return &watchStream{client: client, watching: map[int64]*subscription{}, wake: make(chan struct{}, 1)}
}

func (w *watchStream) subscribe(mailboxID, folderID, since, epoch int64) *subscription {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.lastID++
	made := &subscription{
		id: w.lastID, mailboxID: mailboxID, folderID: folderID, since: since, epoch: epoch, arrived: make(chan struct{}, 1),
	}
	w.watching[made.id] = made
	if w.open {
		w.ask(w.request(made))
	}
	if !w.running {
		w.running = true
		go w.run()
	}
	return made
}

func (w *watchStream) unsubscribe(watched *subscription) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if _, known := w.watching[watched.id]; !known {
		return
	}
	delete(w.watching, watched.id)
	if w.open {
		w.ask(&restantev1.WatchRequest{Action: &restantev1.WatchRequest_Unsubscribe{Unsubscribe: watched.id}})
	}
}

// ask queues a request. The mutex is held.
func (w *watchStream) ask(request *restantev1.WatchRequest) {
	w.requests = append(w.requests, request)
	signal(w.wake)
}

func (w *watchStream) request(watched *subscription) *restantev1.WatchRequest {
	return &restantev1.WatchRequest{Action: &restantev1.WatchRequest_Subscribe{Subscribe: &restantev1.Subscription{
		SubscriptionId:    watched.id,
		SessionToken:      w.client.session.token(),
		MailboxId:         watched.mailboxID,
		FolderId:          watched.folderID,
		SinceChangeNumber: watched.since,
		Epoch:             watched.epoch,
	}}}
}

// run keeps a stream open until the client is closed or nothing is watched any more.
func (w *watchStream) run() {
	ctx := w.client.context
	retry := newRetry(firstPause, longestWatchPause)
	for {
		token := w.client.session.token()
		err := w.once(ctx, retry)
		w.mutex.Lock()
		w.open, w.requests = false, nil
		idle := len(w.watching) == 0
		if idle || ctx.Err() != nil {
			w.running = false
			w.mutex.Unlock()
			return
		}
		w.mutex.Unlock()
		delay := jittered(firstPause)
		if err != nil {
			failure := asError(err)
			delay = retry.delay(failure)
			if isOver(failure) && string(w.client.session.token()) == string(token) {
				w.client.check() // a fresh token, or the end of the session, which its watchers learn from
			}
		}
		pause(ctx, delay)
	}
}

// once is one stream from its beginning to its end. It returns nil where the next one should be opened soon.
func (w *watchStream) once(ctx context.Context, retry *retry) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	used, err := w.client.link.acquire()
	if err != nil {
		return err
	}
	defer w.client.link.release(used)
	stream, err := restantev1.NewSyncServiceClient(used).Watch(Authorize(ctx, w.client.session.token()))
	if err != nil {
		return err
	}
	w.mutex.Lock()
	for _, watched := range w.watching {
		w.ask(w.request(watched))
	}
	w.open = true
	w.mutex.Unlock()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		w.send(ctx, stream)
	}()
	defer func() { <-sent }()
	defer cancel()
	for {
		response, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		retry.worked()
		if response.GetDraining() {
			w.client.link.retire(used)
			return nil
		}
		w.receive(response)
	}
}

// send writes what is asked until the stream ends, which the receiving side learns of.
func (w *watchStream) send(ctx context.Context, stream restantev1.SyncService_WatchClient) {
	for {
		w.mutex.Lock()
		requests := w.requests
		w.requests = nil
		w.mutex.Unlock()
		for _, request := range requests {
			if stream.Send(request) != nil {
				return
			}
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return
		}
	}
}

func (w *watchStream) receive(response *restantev1.WatchResponse) {
	w.mutex.Lock()
	watched := w.watching[response.GetSubscriptionId()]
	if watched == nil {
		w.mutex.Unlock()
		return
	}
	switch notice := response.GetNotice().(type) {
	case *restantev1.WatchResponse_Folder:
		watched.since = max(watched.since, notice.Folder.GetChangeNumber())
	case *restantev1.WatchResponse_Mailbox:
		watched.since = max(watched.since, notice.Mailbox.GetChangeNumber())
	case *restantev1.WatchResponse_ResetReason, *restantev1.WatchResponse_Rejected:
		delete(w.watching, watched.id)
	}
	w.mutex.Unlock()
	watched.put(response)
}

func (s *subscription) put(notice *restantev1.WatchResponse) {
	s.mutex.Lock()
	if len(s.notices) < maxNotices {
		s.notices = append(s.notices, notice)
	} else {
		s.late = true
	}
	s.mutex.Unlock()
	signal(s.arrived)
}

// take gives what has come since; late means that some could not be kept.
func (s *subscription) take() (notices []*restantev1.WatchResponse, late bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	notices, s.notices = s.notices, nil
	return notices, s.late
}

// signal makes sure that a channel of capacity one holds an entry.
func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default: // it does already
	}
}
