package restante

import (
	"context"
	"iter"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

// Parts is the part tree of a message of the user's own mailbox: the whole message, as the root of its parts.
func (c *Client) Parts(ctx context.Context, messageID int64) (*restantev1.MessagePart, error) {
	ids := &restantev1.MessageIdSet{MessageIds: []int64{messageID}}
	response, err := c.Messages().BatchGetMessages(ctx, &restantev1.BatchGetMessagesRequest{
		Messages: &restantev1.MessageSet{Messages: &restantev1.MessageSet_Ids{Ids: ids}},
		Columns:  []restantev1.MessageColumn{restantev1.MessageColumn_MESSAGE_COLUMN_PARTS},
	})
	if err != nil {
		return nil, err
	}
	for row := range Rows(response.GetRows()) {
		return row.Parts, nil
	}
	id := strconv.FormatInt(messageID, 10)
	return nil, &Error{
		Code: codes.NotFound, Reason: ReasonMessageNotFound, Metadata: map[string]string{"message_id": id},
		Message: "The message does not exist (message_id " + id + ").",
	}
}

// OpenPart reads a part of a message of the user's own mailbox without its transfer encoding, as [Client.OpenContent]
// reads. The multipart of a whole message has no octets of its own.
func (c *Client) OpenPart(ctx context.Context, messageID int64, part *restantev1.MessagePart) *Content {
	return c.OpenContent(ctx, messageID, decoded(part, restantev1.SectionDecoding_SECTION_DECODING_TRANSFER))
}

// ReadPart is all the octets that [Client.OpenPart] reads.
func (c *Client) ReadPart(ctx context.Context, messageID int64, part *restantev1.MessagePart) ([]byte, error) {
	return c.ReadContent(ctx, messageID, decoded(part, restantev1.SectionDecoding_SECTION_DECODING_TRANSFER))
}

// ReadText is the text of a text part of a message of the user's own mailbox. The server decodes its charset; line ends
// are LF.
func (c *Client) ReadText(ctx context.Context, messageID int64, part *restantev1.MessagePart) (string, error) {
	section := decoded(part, restantev1.SectionDecoding_SECTION_DECODING_TEXT)
	octets, err := c.ReadContent(ctx, messageID, section)
	return strings.ReplaceAll(string(octets), "\r\n", "\n"), err
}

func decoded(part *restantev1.MessagePart, decoding restantev1.SectionDecoding) *restantev1.Section {
	kind := restantev1.SectionKind_SECTION_KIND_WHOLE
	return &restantev1.Section{Part: part.GetPart(), Kind: kind, Decoding: decoding}
}

// PartsOf gives a part and the parts below it, in order, without those of embedded messages.
func PartsOf(root *restantev1.MessagePart) iter.Seq[*restantev1.MessagePart] {
	return func(yield func(*restantev1.MessagePart) bool) { walk(root, yield) }
}

func walk(part *restantev1.MessagePart, yield func(*restantev1.MessagePart) bool) bool {
	if !yield(part) {
		return false
	}
	if strings.HasPrefix(part.GetMediaType(), "multipart/") {
		for _, each := range part.GetParts() {
			if !walk(each, yield) {
				return false
			}
		}
	}
	return true
}

// Attachments gives the attachments of a message, in order. An embedded message counts as one.
func Attachments(root *restantev1.MessagePart) iter.Seq[*restantev1.MessagePart] {
	return func(yield func(*restantev1.MessagePart) bool) {
		for part := range PartsOf(root) {
			if part.GetAttachment() && !yield(part) {
				return
			}
		}
	}
}

// FindPart is the first part of a media type, such as "text/plain", that is no attachment. It is nil where there is none.
func FindPart(root *restantev1.MessagePart, mediaType string) *restantev1.MessagePart {
	for part := range PartsOf(root) {
		if part.GetMediaType() == mediaType && !part.GetAttachment() {
			return part
		}
	}
	return nil
}
