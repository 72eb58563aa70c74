package restante

import (
	"bytes"
	"context"
	"fmt"
	"mime"
	"net/mail"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

// inlineOctets is how much of a message's files goes into the call; the rest is uploaded before it.
const inlineOctets = 256 << 10

// Mail is a message to send. At least one recipient is needed.
type Mail struct {
	// To, Cc and Bcc are addresses: "alice@example.org" or "Alice <alice@example.org>". Only the sender's own copy
	// names those in Bcc.
	To, Cc, Bcc []string
	// From is the author; empty means the user of the session.
	From string
	// ReplyTo are the addresses that replies go to, where they are not From.
	ReplyTo []string
	// Subject has no line ends.
	Subject string
	// Text and HTML are two forms of the body; one of them is enough.
	Text, HTML string
	// Files go with the message.
	Files []File
	// InReplyTo and References are Message-IDs with their angle brackets, the oldest first.
	InReplyTo  string
	References []string
	// SendAt is the time to send at; the zero time means at once.
	SendAt time.Time
}

// File is a file of a [Mail]: its content, or a path that is read when it is sent.
type File struct {
	// Name is what the reader sees; empty means the last element of Path.
	Name string
	// MediaType is such as "application/pdf"; empty means the one that the name suggests.
	MediaType string
	// Content is the file's octets, unless Path names it.
	Content []byte
	// Path is a file to read.
	Path string
	// ContentID, without angle brackets, is for references from HTML. The file is then shown within the text.
	ContentID string
}

// Send sends a message, and tells what the server made of it. Files that are too large for one call are uploaded
// first.
//
// The reason of a failure is SENDER_NOT_PERMITTED, RECIPIENT_NOT_FOUND, INVALID_ADDRESS, NO_RECIPIENTS or
// MESSAGE_TOO_LARGE. An address that cannot be read and a file that cannot be read are errors of this side, and nothing
// is sent.
func (c *Client) Send(ctx context.Context, message Mail) (*restantev1.SubmitMessageResponse, error) {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	draft, err := c.Compose(ctx, message)
	if err != nil {
		return nil, err
	}
	request := &restantev1.SubmitMessageRequest{Source: &restantev1.SubmitMessageRequest_Draft{Draft: draft}}
	if !message.SendAt.IsZero() {
		request.SendAt = timestamppb.New(message.SendAt)
	}
	return c.Submissions().SubmitMessage(ctx, request)
}

// Compose is the draft of a message, for CreateDraft or SubmitMessage. Files that are too large for one call are
// uploaded now.
func (c *Client) Compose(ctx context.Context, message Mail) (*restantev1.Draft, error) {
	draft := &restantev1.Draft{
		Subject: message.Subject, Text: message.Text, Html: message.HTML,
		InReplyTo: message.InReplyTo, References: message.References,
	}
	author := []string(nil)
	if message.From != "" {
		author = []string{message.From}
	}
	var authors []*restantev1.MailAddress
	for _, field := range []struct {
		name  string
		given []string
		into  *[]*restantev1.MailAddress
	}{
		{"From", author, &authors},
		{"To", message.To, &draft.To},
		{"Cc", message.Cc, &draft.Cc},
		{"Bcc", message.Bcc, &draft.Bcc},
		{"ReplyTo", message.ReplyTo, &draft.ReplyTo},
	} {
		for _, text := range field.given {
			address, err := mailAddress(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %q: %w", field.name, text, err)
			}
			*field.into = append(*field.into, address)
		}
	}
	if len(authors) > 0 {
		draft.Author = authors[0]
	}
	room := int64(inlineOctets)
	for i := range message.Files {
		attachment, err := c.attach(ctx, &message.Files[i], &room)
		if err != nil {
			return nil, err
		}
		draft.Attachments = append(draft.Attachments, attachment)
	}
	return draft, nil
}

// attach is a file as a part of a draft: within it where there is room, otherwise uploaded.
func (c *Client) attach(ctx context.Context, file *File, room *int64) (*restantev1.Attachment, error) {
	attachment := &restantev1.Attachment{
		FileName: file.shownName(), MediaType: file.shownType(),
		Inlined: file.ContentID != "", ContentId: file.ContentID,
	}
	size := int64(len(file.Content))
	if file.Path != "" {
		found, err := os.Stat(file.Path)
		if err != nil {
			return nil, err
		}
		size = found.Size()
	}
	if size <= *room {
		*room -= size
		attachment.Content = file.Content
		if file.Path != "" {
			content, err := os.ReadFile(file.Path)
			if err != nil {
				return nil, err
			}
			attachment.Content = content
		}
		return attachment, nil
	}
	kind := restantev1.UploadKind_UPLOAD_KIND_ATTACHMENT
	var uploaded *restantev1.UploadContentResponse
	var err error
	if file.Path != "" {
		uploaded, err = c.UploadFile(ctx, kind, file.Path)
	} else {
		uploaded, err = c.Upload(ctx, kind, bytes.NewReader(file.Content))
	}
	if err != nil {
		return nil, err
	}
	attachment.UploadId = uploaded.GetUploadId()
	return attachment, nil
}

func (f *File) shownName() string {
	if f.Name == "" && f.Path != "" {
		return filepath.Base(f.Path)
	}
	return f.Name
}

func (f *File) shownType() string {
	if f.MediaType != "" {
		return f.MediaType
	}
	if known, _, err := mime.ParseMediaType(mime.TypeByExtension(filepath.Ext(f.shownName()))); err == nil {
		return known
	}
	return "application/octet-stream"
}

func mailAddress(text string) (*restantev1.MailAddress, error) {
	found, err := mail.ParseAddress(text)
	if err != nil {
		return nil, err
	}
	return &restantev1.MailAddress{DisplayName: found.Name, Address: found.Address}, nil
}
