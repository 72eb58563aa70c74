package restante

import (
	"context"
	"errors"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const defaultPageSize = 100 // the contract's

// Page is a response of a list.
type Page interface {
	proto.Message
	GetNextPageToken() string
}

// Pages gives every page of a list, such as
//
//	for page, err := range restante.Pages(ctx, client.Folders().ListFolders, &restantev1.ListFoldersRequest{}) { ... }
//
// Each page is a call with a deadline of its own where ctx has none. Where a page is RESULT_TOO_LARGE, smaller ones are
// asked for. The sequence ends after an error. The request is left as it is.
func Pages[Request proto.Message, Response Page](
	ctx context.Context,
	list func(context.Context, Request, ...grpc.CallOption) (Response, error),
	request Request,
) iter.Seq2[Response, error] {
	return func(yield func(Response, error) bool) {
		wanted := proto.CloneOf(request)
		fields := wanted.ProtoReflect().Descriptor().Fields()
		size, token := fields.ByName("page_size"), fields.ByName("page_token")
		for {
			page, err := list(ctx, wanted)
			if errors.Is(err, ReasonResultTooLarge) {
				now := int32(wanted.ProtoReflect().Get(size).Int())
				if now == 0 {
					now = defaultPageSize
				}
				if now > 1 {
					wanted.ProtoReflect().Set(size, protoreflect.ValueOfInt32(max(1, now/4)))
					continue
				}
			}
			if !yield(page, err) || err != nil || page.GetNextPageToken() == "" {
				return
			}
			wanted.ProtoReflect().Set(token, protoreflect.ValueOfString(page.GetNextPageToken()))
		}
	}
}
