package restante

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

func TestACutCellIsPutTogether(t *testing.T) {
	batch := &restantev1.MessageRows{
		MessageIds: []int64{1, 2},
		Sections: []*restantev1.SectionCells{
			{Octets: [][]byte{[]byte("whole"), []byte("whole too")}, TotalOctets: []int64{5, 9}},
			{Octets: [][]byte{nil, []byte("01")}, TotalOctets: []int64{-1, 6}},
		},
	}
	if whole(batch) {
		t.Error("a cut cell was taken for whole")
	}
	join(batch, &restantev1.SectionRest{SectionIndex: 1, OffsetOctets: 2, Octets: []byte("23")})
	join(batch, &restantev1.SectionRest{SectionIndex: 1, OffsetOctets: 4, Octets: []byte("45")})
	if got := string(batch.Sections[1].Octets[1]); got != "012345" || !whole(batch) {
		t.Errorf("the cell is %q", got)
	}
}

func uidSet(folderID int64, ranges ...*restantev1.IdRange) *restantev1.MessageSet {
	uids := &restantev1.UidSet{FolderId: folderID, Ranges: ranges}
	return &restantev1.MessageSet{Messages: &restantev1.MessageSet_Uids{Uids: uids}}
}

func idSet(ids ...int64) *restantev1.MessageSet {
	return &restantev1.MessageSet{Messages: &restantev1.MessageSet_Ids{Ids: &restantev1.MessageIdSet{MessageIds: ids}}}
}

func TestWhatHasBeenToldIsNotAskedForAgain(t *testing.T) {
	told := &restantev1.MessageRows{Uids: []int64{2, 7}, MessageIds: []int64{50, 40}}
	byUID := behind(uidSet(3, &restantev1.IdRange{First: 1, Last: 4}, &restantev1.IdRange{First: 6, Last: 9}, &restantev1.IdRange{First: 20, Last: 20}), told)
	want := uidSet(3, &restantev1.IdRange{First: 8, Last: 9}, &restantev1.IdRange{First: 20, Last: 20})
	if !proto.Equal(byUID, want) {
		t.Errorf("left are %v", byUID)
	}
	byID := behind(idSet(9, 2, 5), &restantev1.MessageRows{MessageIds: []int64{2, 5}})
	if !proto.Equal(byID, idSet(9)) || finished(byID) {
		t.Errorf("left are %v", byID)
	}
	byID = behind(byID, &restantev1.MessageRows{MessageIds: []int64{9}})
	if !finished(byID) {
		t.Errorf("left are %v", byID)
	}
}

func TestMatchingMessagesGoOnBehindTheLastOneTold(t *testing.T) {
	told := &restantev1.MessageRows{Uids: []int64{2, 7}, MessageIds: []int64{40, 50}}
	seen := &restantev1.Restriction{Condition: &restantev1.Restriction_Flags{Flags: &restantev1.FlagRestriction{Mask: 1, Value: 1}}}
	for folderID, last := range map[int64]int64{3: 7, 0: 50} {
		matching := &restantev1.MatchingMessages{FolderId: folderID, Restriction: seen, Below: 60}
		set := &restantev1.MessageSet{Messages: &restantev1.MessageSet_Matching{Matching: matching}}
		left := behind(set, told).GetMatching()
		wanted := &restantev1.MatchingMessages{FolderId: folderID, Restriction: seen, Above: last, Below: 60}
		if !proto.Equal(left, wanted) {
			t.Errorf("left are %v", left)
		}
		if finished(set) {
			t.Errorf("%v is not finished", set)
		}
	}
}

func TestRowsHaveWhatTheColumnsHold(t *testing.T) {
	batch := &restantev1.MessageRows{
		MessageIds:            []int64{1, 2},
		Uids:                  []int64{11, 12},
		Flags:                 []int32{0, int32(restantev1.Flag_FLAG_SEEN | restantev1.Flag_FLAG_FLAGGED)},
		KeywordSets:           []int32{0, 1},
		KeywordTable:          []*restantev1.KeywordSet{{}, {Keywords: []string{"$Work"}}},
		ReceivedAtSeconds:     []int64{0, 86_400},
		ReceivedOffsetMinutes: []int32{0, 120},
		Sections:              []*restantev1.SectionCells{{Octets: [][]byte{nil, []byte("x")}, TotalOctets: []int64{-1, 1}}},
	}
	rows := slices.Collect(Rows(batch))
	if len(rows) != 2 || rows[0].Seen() || !rows[1].Seen() || rows[1].UID != 12 || rows[1].SizeOctets != 0 {
		t.Fatalf("%+v", rows)
	}
	if !slices.Equal(rows[1].Keywords, []string{"$Work"}) || len(rows[0].Keywords) != 0 {
		t.Errorf("keywords %v and %v", rows[0].Keywords, rows[1].Keywords)
	}
	if got := rows[1].ReceivedAt.Format(time.RFC3339); got != "1970-01-02T02:00:00+02:00" {
		t.Errorf("received at %s", got)
	}
	if rows[0].Sections[0] != nil || string(rows[1].Sections[0]) != "x" {
		t.Errorf("sections %q and %q", rows[0].Sections, rows[1].Sections)
	}
}
