package restante

import (
	"context"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Page is a response of a list.
type Page interface {
	proto.Message
	GetNextPageToken() string
}

// Pages gives every page of a list, such as
//
//	for page, err := range restante.Pages(ctx, client.Folders().ListFolders, &restantev1.ListFoldersRequest{}) { ... }
//
// Each page is a call with a deadline of its own where ctx has none. The sequence ends after an error. The request is
// left as it is.
func Pages[Request proto.Message, Response Page](
	ctx context.Context,
	list func(context.Context, Request, ...grpc.CallOption) (Response, error),
	request Request,
) iter.Seq2[Response, error] {
	return func(yield func(Response, error) bool) {
		wanted := proto.CloneOf(request)
		token := wanted.ProtoReflect().Descriptor().Fields().ByName("page_token")
		for {
			page, err := list(ctx, wanted)
			if !yield(page, err) || err != nil || page.GetNextPageToken() == "" {
				return
			}
			wanted.ProtoReflect().Set(token, protoreflect.ValueOfString(page.GetNextPageToken()))
		}
	}
}
