package restante

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"google.golang.org/protobuf/proto"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

const chunkOctets = 256 << 10

// Upload sends octets that are too many for one call, from where `from` stands to its end. The answer's upload_id goes
// into AppendMessage, SubmitMessage or an attachment, within an hour.
//
// It begins anew when the connection breaks, as long as the client's timeout brings it further. The reason of a failure
// is MESSAGE_TOO_LARGE, INVALID_CONTENT or STORE_FULL; an error of `from` is returned as it is.
func (c *Client) Upload(
	ctx context.Context, kind restantev1.UploadKind, from io.ReadSeeker,
) (*restantev1.UploadContentResponse, error) {
	start, err := from.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	retry := newRetry(firstCallPause, longestCallPause)
	last, furthest := time.Now(), int64(0)
	for {
		token := c.session.token()
		answer, err := c.uploadOnce(ctx, kind, from, func(done int64) {
			if done > furthest {
				last, furthest = time.Now(), done
			}
		})
		var failure *Error
		if err == nil || !errors.As(err, &failure) {
			return answer, err
		}
		switch {
		case failure.Reason == ReasonSessionExpired && retry.renewal():
			if err := c.renew(ctx, token); err != nil {
				return nil, err
			}
		case !isTemporary(failure):
			return nil, failure
		default:
			delay := retry.delay(failure)
			if time.Now().Add(delay).After(last.Add(c.config.timeout())) {
				return nil, failure
			}
			if !pause(ctx, delay) {
				return nil, fromContext(ctx.Err())
			}
		}
		if _, err := from.Seek(start, io.SeekStart); err != nil {
			return nil, err
		}
	}
}

// UploadFile uploads a file; see Upload.
func (c *Client) UploadFile(
	ctx context.Context, kind restantev1.UploadKind, path string,
) (*restantev1.UploadContentResponse, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	return c.Upload(ctx, kind, file)
}

func (c *Client) uploadOnce(
	ctx context.Context, kind restantev1.UploadKind, from io.Reader, told func(int64),
) (*restantev1.UploadContentResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Contents().UploadContent(ctx)
	if err != nil {
		return nil, err
	}
	request, done := &restantev1.UploadContentRequest{Kind: kind}, int64(0)
	buffer := make([]byte, chunkOctets)
	for first := true; ; first = false {
		count, err := io.ReadFull(from, buffer)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return nil, err
		}
		if count > 0 || first {
			request.Octets = buffer[:count]
			if err := stream.Send(request); err != nil {
				break // the answer says why
			}
			done += int64(count)
			told(done)
			request = &restantev1.UploadContentRequest{}
		}
		if err != nil {
			break
		}
	}
	return stream.CloseAndRecv()
}

// Content reads the octets of a message or of a section of it. It is for one goroutine.
type Content struct {
	client  *Client
	context context.Context
	cancel  context.CancelFunc
	chunks  chan contentChunk
	rest    []byte
	err     error
	total   int64
}

type contentChunk struct {
	octets []byte
	total  int64
	err    error
}

// OpenContent reads a message of the user's own mailbox, or a section of it (nil: the whole), as it is stored. It must
// be closed; the context ends it, too.
//
// It goes on where it was when the connection breaks. Errors come from Read: MESSAGE_NOT_FOUND, PART_NOT_FOUND.
func (c *Client) OpenContent(ctx context.Context, messageID int64, section *restantev1.Section) *Content {
	return c.OpenContentOf(ctx, 0, messageID, section)
}

// OpenContentOf is OpenContent for any mailbox that the user may read (0: the own).
func (c *Client) OpenContentOf(ctx context.Context, mailboxID, messageID int64, section *restantev1.Section) *Content {
	ctx, cancel := context.WithCancel(ctx)
	opened := &Content{client: c, context: ctx, cancel: cancel, chunks: make(chan contentChunk)}
	wanted := &restantev1.Section{Kind: restantev1.SectionKind_SECTION_KIND_WHOLE}
	if section != nil {
		wanted = proto.CloneOf(section)
	}
	go opened.run(&restantev1.ReadContentRequest{MailboxId: mailboxID, MessageId: messageID, Section: wanted})
	return opened
}

// ReadContent is all the octets of a message of the user's own mailbox, or of a section of it (nil: the whole).
func (c *Client) ReadContent(ctx context.Context, messageID int64, section *restantev1.Section) ([]byte, error) {
	opened := c.OpenContent(ctx, messageID, section)
	defer opened.Close() //nolint:errcheck // always nil
	return io.ReadAll(opened)
}

// run fetches chunk by chunk, no faster than they are read.
func (o *Content) run(request *restantev1.ReadContentRequest) {
	defer close(o.chunks)
	section := request.GetSection()
	start, done := section.GetOffsetOctets(), int64(0)
	length := section.LengthOctets
	err := o.client.resumed(o.context, func(ctx context.Context, told func()) error {
		if start+done > 0 {
			section.OffsetOctets = proto.Int64(start + done)
		}
		if length != nil {
			section.LengthOctets = proto.Int64(*length - done)
		}
		stream, err := o.client.Contents().ReadContent(ctx, request)
		if err != nil {
			return err
		}
		for {
			chunk, err := stream.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			told()
			next := contentChunk{octets: chunk.GetOctets()}
			if done == 0 {
				next.total = chunk.GetTotalOctets()
			}
			done += int64(len(next.octets))
			select {
			case o.chunks <- next:
			case <-ctx.Done():
				return fromContext(ctx.Err())
			}
		}
	})
	if err != nil {
		select {
		case o.chunks <- contentChunk{err: err}:
		case <-o.context.Done():
		}
	}
}

// Read reads octets. At the end it returns io.EOF; other errors are of the type *Error.
func (o *Content) Read(into []byte) (int, error) {
	for len(o.rest) == 0 && o.err == nil {
		o.fetch()
	}
	if len(o.rest) == 0 {
		return 0, o.err
	}
	count := copy(into, o.rest)
	o.rest = o.rest[count:]
	return count, nil
}

// Size is how many octets there are in all. It reads the first of them.
func (o *Content) Size() (int64, error) {
	if len(o.rest) == 0 && o.err == nil {
		o.fetch()
	}
	if o.err != nil && o.err != io.EOF {
		return 0, o.err
	}
	return o.total, nil
}

// Close ends the reading, at the server too. The error is always nil; it is there for io.Closer.
func (o *Content) Close() error {
	o.cancel()
	return nil
}

func (o *Content) fetch() {
	select {
	case next, more := <-o.chunks:
		switch {
		case !more && o.context.Err() != nil:
			o.err = fromContext(o.context.Err())
		case !more:
			o.err = io.EOF
		case next.err != nil:
			o.err = next.err
		default:
			o.rest = next.octets
			o.total = max(o.total, next.total)
		}
	case <-o.context.Done():
		o.err = fromContext(o.context.Err())
	}
}
