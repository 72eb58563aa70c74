package restante

import (
	"context"
	"io"
	"iter"
	"time"

	"google.golang.org/protobuf/proto"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

// FolderEvent is what happened in a folder.
type FolderEvent struct {
	// Changes bring a copy of the folder up to date.
	Changes *restantev1.FolderChanges
	// Fresh says that all that was known before is void: Changes begin a new copy.
	Fresh bool
}

// WatchOptions say where a watch begins. The zero value tells what happens from now on.
type WatchOptions struct {
	// MailboxID is the mailbox; 0: the user's own.
	MailboxID int64
	// Snapshot tells first what the folder holds; the first event is then fresh.
	Snapshot bool
	// Since tells first what happened above a change number, such as Folder.change_number of an earlier answer: so
	// nothing is missed between that answer and the watch. 0: from now on. Snapshot goes before it.
	Since int64
	// Epoch is the mailbox's epoch under which Since was learned; 0: the present one.
	Epoch int64
}

// Watch tells the changes of a folder for as long as they are taken: breaking out of the loop, or the end of ctx, ends
// it. All watches of a client share one stream.
//
// When the stream breaks it is opened again from the last change number that was told, so that nothing is missed. When
// the server knows no changes so old, or a reader lags too far, the folder is read anew and the next event is fresh.
// The sequence ends with an error: FOLDER_NOT_FOUND when the folder is gone, SESSION_EXPIRED or SESSION_REVOKED when
// the session is over, the code Canceled or DeadlineExceeded with ctx.
func (c *Client) Watch(ctx context.Context, folderID int64, options WatchOptions) iter.Seq2[FolderEvent, error] {
	return func(yield func(FolderEvent, error) bool) {
		if err := c.watchFolder(ctx, folderID, options, yield); err != nil && err != errStop {
			yield(FolderEvent{}, err)
		}
	}
}

func (c *Client) watchFolder(
	ctx context.Context, folderID int64, options WatchOptions, yield func(FolderEvent, error) bool,
) error {
	mailboxID, snapshot, since, epoch := options.MailboxID, options.Snapshot, options.Since, options.Epoch
	if snapshot || epoch == 0 {
		var err error
		if epoch, _, err = c.mailboxNow(ctx, mailboxID); err != nil {
			return err
		}
	}
	if !snapshot && since == 0 {
		request := &restantev1.GetFolderRequest{MailboxId: mailboxID, FolderId: folderID}
		answer, err := c.Folders().GetFolder(ctx, request)
		if err != nil {
			return err
		}
		since = answer.GetFolder().GetChangeNumber()
	}
	for {
		if snapshot {
			pieces, err := c.snapshot(ctx, mailboxID, folderID)
			if err != nil {
				return err
			}
			for i, piece := range pieces {
				if piece.GetFolder() != nil {
					since = piece.GetFolder().GetChangeNumber()
				}
				if !yield(FolderEvent{Changes: piece.GetRows(), Fresh: i == 0}, nil) {
					return errStop
				}
			}
		}
		err := c.notices(ctx, mailboxID, folderID, since, epoch, func(notice *restantev1.WatchResponse) bool {
			changes := notice.GetFolder()
			return changes == nil || yield(FolderEvent{Changes: changes}, nil)
		})
		if err != nil {
			return err
		}
		if epoch, _, err = c.mailboxNow(ctx, mailboxID); err != nil {
			return err
		}
		snapshot = true
	}
}

// MailboxEvent says that a mailbox has a new change number.
type MailboxEvent struct {
	// ChangeNumber is the mailbox's.
	ChangeNumber int64
	// FolderIDs are those known to be touched; there may be more.
	FolderIDs []int64
	// Fresh says that changes may have been missed: compare everything.
	Fresh bool
}

// WatchMailbox tells each new change number of a mailbox (0: the user's own) from now on, as Watch does for a folder.
func (c *Client) WatchMailbox(ctx context.Context, mailboxID int64) iter.Seq2[MailboxEvent, error] {
	return func(yield func(MailboxEvent, error) bool) {
		if err := c.watchMailbox(ctx, mailboxID, yield); err != nil && err != errStop {
			yield(MailboxEvent{}, err)
		}
	}
}

func (c *Client) watchMailbox(ctx context.Context, mailboxID int64, yield func(MailboxEvent, error) bool) error {
	epoch, since, err := c.mailboxNow(ctx, mailboxID)
	for err == nil {
		err = c.notices(ctx, mailboxID, 0, since, epoch, func(notice *restantev1.WatchResponse) bool {
			changed := notice.GetMailbox()
			return changed == nil ||
				yield(MailboxEvent{ChangeNumber: changed.GetChangeNumber(), FolderIDs: changed.GetFolderIds()}, nil)
		})
		if err != nil {
			return err
		}
		epoch, since, err = c.mailboxNow(ctx, mailboxID)
		if err == nil && !yield(MailboxEvent{ChangeNumber: since, Fresh: true}, nil) {
			return errStop
		}
	}
	return err
}

// mailboxNow is a mailbox's epoch and change number.
func (c *Client) mailboxNow(ctx context.Context, mailboxID int64) (epoch, changeNumber int64, err error) {
	answer, err := c.Mailboxes().GetMailbox(ctx, &restantev1.GetMailboxRequest{MailboxId: mailboxID})
	return answer.GetMailbox().GetEpoch(), answer.GetMailbox().GetChangeNumber(), err
}

// snapshot is what a folder holds. A break begins it anew, so that it is only told once it is whole.
func (c *Client) snapshot(ctx context.Context, mailboxID, folderID int64) ([]*restantev1.OpenFolderResponse, error) {
	var pieces []*restantev1.OpenFolderResponse
	request := &restantev1.OpenFolderRequest{MailboxId: mailboxID, FolderId: folderID, MinCommit: c.MinCommit(mailboxID)}
	err := c.resumed(ctx, func(ctx context.Context, told func()) error {
		pieces = nil
		stream, err := c.Folders().OpenFolder(ctx, request)
		if err != nil {
			return err
		}
		for {
			piece, err := stream.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			pieces = append(pieces, piece)
		}
	})
	return pieces, err
}

// notices tells those of one subscription until it is reset (nil), the reader wants no more (errStop), or it fails.
func (c *Client) notices(
	ctx context.Context, mailboxID, folderID, since, epoch int64, told func(*restantev1.WatchResponse) bool,
) error {
	token := c.session.token()
	watched := c.watching.subscribe(mailboxID, folderID, since, epoch)
	defer func() { c.watching.unsubscribe(watched) }()
	retry := newRetry(firstCallPause, longestWatchPause)
	for {
		select {
		case <-watched.arrived:
		case <-c.session.ended:
			return c.session.reason()
		case <-ctx.Done():
			return fromContext(ctx.Err())
		case <-c.context.Done():
			return errClosed()
		}
		notices, late := watched.take()
		for _, notice := range notices {
			switch kind := notice.GetNotice().(type) {
			case *restantev1.WatchResponse_ResetReason:
				return nil
			case *restantev1.WatchResponse_Rejected:
				again, err := c.rejected(ctx, ofRefusal(kind.Rejected), token, retry)
				if !again {
					return err
				}
				token = c.session.token()
				watched = c.watching.subscribe(mailboxID, folderID, since, epoch)
			default:
				if folder := notice.GetFolder(); folder != nil {
					since = max(since, folder.GetChangeNumber())
				} else if mailbox := notice.GetMailbox(); mailbox != nil {
					since = max(since, mailbox.GetChangeNumber())
				}
				if !told(notice) {
					return errStop
				}
				retry.worked()
			}
		}
		if late {
			return nil
		}
	}
}

// rejected tells whether to subscribe again after a refusal, having done what helps. A session that is over may have
// been replaced by this client's own doing.
func (c *Client) rejected(ctx context.Context, refusal *Error, token []byte, retry *retry) (bool, error) {
	switch {
	case isOver(refusal) && retry.renewal():
		err := c.renew(ctx, token)
		if err == nil {
			return true, nil
		}
		if failure := asError(err); isOver(failure) {
			c.session.end(failure)
		}
		return false, err
	case refusal.Reason == ReasonEpochChanged:
		return false, nil // it is read anew
	case isTemporary(refusal):
		if !pause(ctx, retry.delay(refusal)) {
			return false, fromContext(ctx.Err())
		}
		return true, nil
	}
	return false, refusal
}

// Sync brings a copy of a mailbox or folder up to date and, with `follow`, keeps it so: all that is there, or has
// changed since the cursor of the request, and then what comes.
//
// Keep the cursor of each checkpoint to go on later. A stream that breaks is opened again from the last checkpoint that
// was told; what came after it may come again. After a reset throw the copy away: everything follows anew. The sequence
// ends after an error, such as CURSOR_INVALID, and without `follow` at the end.
func (c *Client) Sync(
	ctx context.Context, request *restantev1.SyncMailboxRequest,
) iter.Seq2[*restantev1.SyncMailboxResponse, error] {
	return func(yield func(*restantev1.SyncMailboxResponse, error) bool) {
		wanted := proto.CloneOf(request)
		retry := newRetry(firstPause, longestCallPause)
		for {
			again, stopped, began := wanted.GetFollow(), false, time.Now()
			err := c.resumed(ctx, func(ctx context.Context, told func()) error {
				stream, err := c.Changes().SyncMailbox(ctx, wanted)
				if err != nil {
					return err
				}
				for {
					change, err := stream.Recv()
					if err == io.EOF {
						return nil
					}
					if err != nil {
						return err
					}
					told()
					if stopped = !yield(change, nil); stopped {
						return errStop
					}
					switch kind := change.GetChange().(type) {
					case *restantev1.SyncMailboxResponse_Checkpoint:
						wanted.Cursor = kind.Checkpoint.GetCursor()
					case *restantev1.SyncMailboxResponse_ResetReason:
						wanted.Cursor, again = nil, true
					}
				}
			})
			if err != nil {
				yield(nil, err)
			}
			if err != nil || stopped || !again {
				return
			}
			if time.Since(began) > longestCallPause {
				retry.worked()
			}
			if !pause(ctx, retry.delay(&Error{})) { // the server drains: it ends streams after a checkpoint
				yield(nil, fromContext(ctx.Err()))
				return
			}
		}
	}
}
