package restante

import (
	"slices"
	"testing"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

// tree is a message with a text in two forms, an attached message and a picture.
func tree() *restantev1.MessagePart {
	return &restantev1.MessagePart{MediaType: "multipart/mixed", Parts: []*restantev1.MessagePart{
		{Part: []int32{1}, MediaType: "multipart/alternative", Parts: []*restantev1.MessagePart{
			{Part: []int32{1, 1}, MediaType: "text/plain"},
			{Part: []int32{1, 2}, MediaType: "text/html"},
		}},
		{Part: []int32{2}, MediaType: "message/rfc822", Attachment: true, Parts: []*restantev1.MessagePart{
			{Part: []int32{2, 1}, MediaType: "text/csv", Attachment: true},
		}},
		{Part: []int32{3}, MediaType: "text/plain", FileName: "notes.txt", Attachment: true},
	}}
}

func TestPartsAreThoseOfTheMessageItself(t *testing.T) {
	var numbers [][]int32
	for part := range PartsOf(tree()) {
		numbers = append(numbers, part.GetPart())
	}
	want := [][]int32{nil, {1}, {1, 1}, {1, 2}, {2}, {3}}
	if !slices.EqualFunc(numbers, want, slices.Equal) {
		t.Errorf("the parts are %v", numbers)
	}
	var types []string
	for part := range Attachments(tree()) {
		types = append(types, part.GetMediaType())
	}
	if !slices.Equal(types, []string{"message/rfc822", "text/plain"}) {
		t.Errorf("the attachments are %v", types)
	}
}

func TestAPartIsFoundByItsMediaType(t *testing.T) {
	if found := FindPart(tree(), "text/plain"); !slices.Equal(found.GetPart(), []int32{1, 1}) {
		t.Errorf("the text is %v", found)
	}
	if found := FindPart(tree(), "text/csv"); found != nil {
		t.Errorf("a part of the embedded message was found: %v", found)
	}
	single := &restantev1.MessagePart{Part: []int32{1}, MediaType: "text/html"}
	if FindPart(single, "text/html") != single {
		t.Error("the only part was not found")
	}
}
