package restante

import (
	"context"
	"io"
	"iter"
	"time"

	"google.golang.org/protobuf/proto"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

// StreamMessages reads columns and sections of any number of messages, a batch at a time, no faster than they are
// taken. Octets that the contract cuts at the end of a batch are put together: every cell is whole, and the largest
// message bounds the memory.
//
// A stream that breaks is opened again with the messages that have not been told. The sequence ends after an error.
func (c *Client) StreamMessages(
	ctx context.Context, request *restantev1.StreamMessagesRequest,
) iter.Seq2[*restantev1.MessageRows, error] {
	return func(yield func(*restantev1.MessageRows, error) bool) {
		wanted, asked := proto.CloneOf(request), proto.CloneOf(request.GetMessages())
		if wanted.GetMinCommit() == nil {
			wanted.MinCommit = c.MinCommit(wanted.GetMailboxId())
		}
		err := c.resumed(ctx, func(ctx context.Context, told func()) error {
			if finished(wanted.GetMessages()) {
				return nil
			}
			stream, err := c.Messages().StreamMessages(ctx, wanted)
			if err != nil {
				return err
			}
			var batch *restantev1.MessageRows
			give := func() bool {
				if batch == nil {
					return true
				}
				given := batch
				batch = nil
				wanted.Messages = behind(asked, given)
				return yield(given, nil)
			}
			for {
				response, err := stream.Recv()
				if err == io.EOF {
					if !give() {
						return errStop
					}
					return nil
				}
				if err != nil {
					return err
				}
				told()
				if below := response.GetMatchingBelow(); below != 0 {
					asked.GetMatching().Below = below
				}
				if rest := response.GetRest(); rest != nil {
					join(batch, rest)
				}
				if rows := response.GetRows(); rows != nil {
					if !give() {
						return errStop
					}
					batch = rows
					if whole(rows) && !give() {
						return errStop
					}
				}
			}
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// join adds octets to a cut cell of the last message of a batch.
func join(batch *restantev1.MessageRows, rest *restantev1.SectionRest) {
	cells := batch.GetSections()
	index := int(rest.GetSectionIndex())
	if index >= len(cells) || len(cells[index].GetOctets()) == 0 {
		return // of no batch that is here
	}
	column := cells[index].GetOctets()
	last := len(column) - 1
	column[last] = append(column[last], rest.GetOctets()...)
}

// whole tells whether no cell of the last message is cut.
func whole(batch *restantev1.MessageRows) bool {
	for _, cells := range batch.GetSections() {
		last := len(cells.GetOctets()) - 1
		if last >= 0 && int64(len(cells.GetOctets()[last])) < cells.GetTotalOctets()[last] {
			return false
		}
	}
	return true
}

// behind is the part of a set that follows a batch: batches come in ascending order of UIDs or message ids.
func behind(set *restantev1.MessageSet, told *restantev1.MessageRows) *restantev1.MessageSet {
	ids := told.GetMessageIds()
	if len(ids) == 0 {
		return set
	}
	lastID, lastUID := ids[len(ids)-1], cell(told.GetUids(), len(ids)-1)
	switch {
	case set.GetMatching() != nil:
		matching := matchingBehind(set.GetMatching(), lastID, lastUID)
		return &restantev1.MessageSet{Messages: &restantev1.MessageSet_Matching{Matching: matching}}
	case set.GetUids() != nil:
		left := &restantev1.UidSet{FolderId: set.GetUids().GetFolderId(), Ranges: above(set.GetUids().GetRanges(), lastUID)}
		return &restantev1.MessageSet{Messages: &restantev1.MessageSet_Uids{Uids: left}}
	default:
		left := &restantev1.MessageIdSet{}
		for _, id := range set.GetIds().GetMessageIds() {
			if id > lastID {
				left.MessageIds = append(left.MessageIds, id)
			}
		}
		return &restantev1.MessageSet{Messages: &restantev1.MessageSet_Ids{Ids: left}}
	}
}

// matchingBehind is the matching messages whose UIDs, or in all folders message ids, are above the last one told.
func matchingBehind(matching *restantev1.MatchingMessages, lastID, lastUID int64) *restantev1.MatchingMessages {
	above := lastUID
	if matching.GetFolderId() == 0 {
		above = lastID
	}
	return &restantev1.MatchingMessages{
		FolderId: matching.GetFolderId(), Restriction: matching.GetRestriction(), Above: above, Below: matching.GetBelow(),
	}
}

// above is what ranges hold above an id.
func above(ranges []*restantev1.IdRange, id int64) []*restantev1.IdRange {
	var left []*restantev1.IdRange
	for _, each := range ranges {
		if each.GetLast() > id {
			left = append(left, &restantev1.IdRange{First: max(each.GetFirst(), id+1), Last: each.GetLast()})
		}
	}
	return left
}

// finished tells whether nothing is left of a set.
func finished(set *restantev1.MessageSet) bool {
	return set.GetMatching() == nil && len(set.GetUids().GetRanges()) == 0 && len(set.GetIds().GetMessageIds()) == 0
}

// Message is one row of [Rows]. What was not asked for is zero.
type Message struct {
	ID           int64           // the message's id
	UID          int64           // in its folder; 0 for a recoverable message
	FolderID     int64           // the folder
	Flags        restantev1.Flag // a sum of bits
	Keywords     []string        // in ascending order
	ChangeNumber int64           // of its last change
	ReceivedAt   time.Time       // in the zone that came with it
	SizeOctets   int64           // of head and content

	Summary         *restantev1.MessageSummary // the parsed header
	Preview         string                     // the first 200 characters of text
	AttachmentCount int32                      // number of attachments
	Parts           *restantev1.MessagePart    // the whole message, as the root of its parts
	// Sections are the octets of each section that was asked for; nil where the message has no such part.
	Sections [][]byte
}

// Seen tells whether the message has been read.
func (m *Message) Seen() bool { return m.Flags&restantev1.Flag_FLAG_SEEN != 0 }

// Rows gives the messages of a batch of columns, one by one.
func Rows(batch *restantev1.MessageRows) iter.Seq[Message] {
	return func(yield func(Message) bool) {
		for i, id := range batch.GetMessageIds() {
			row := Message{
				ID:              id,
				UID:             cell(batch.GetUids(), i),
				FolderID:        cell(batch.GetFolderIds(), i),
				Flags:           restantev1.Flag(cell(batch.GetFlags(), i)),
				Keywords:        cell(batch.GetKeywordTable(), int(cell(batch.GetKeywordSets(), i))).GetKeywords(),
				ChangeNumber:    cell(batch.GetChangeNumbers(), i),
				SizeOctets:      cell(batch.GetSizeOctets(), i),
				Summary:         cell(batch.GetSummaries(), i),
				Preview:         cell(batch.GetPreviews(), i),
				AttachmentCount: cell(batch.GetAttachmentCounts(), i),
				Parts:           cell(batch.GetParts(), i),
			}
			if i < len(batch.GetReceivedAtSeconds()) {
				zone := time.FixedZone("", 60*int(cell(batch.GetReceivedOffsetMinutes(), i)))
				row.ReceivedAt = time.Unix(batch.GetReceivedAtSeconds()[i], 0).In(zone)
			}
			for _, cells := range batch.GetSections() {
				var octets []byte
				if cell(cells.GetTotalOctets(), i) >= 0 {
					octets = cell(cells.GetOctets(), i)
				}
				row.Sections = append(row.Sections, octets)
			}
			if !yield(row) {
				return
			}
		}
	}
}

// cell is an entry of a column, or zero where the column is not there.
func cell[T any](column []T, index int) T {
	if index < len(column) {
		return column[index]
	}
	var none T
	return none
}
