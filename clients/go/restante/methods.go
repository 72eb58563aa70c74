package restante

import (
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

// method is what there is to know of a unary RPC.
type method struct {
	path     string
	request  protoreflect.FieldDescriptor // its field in Operation; nil: it is no operation of a batch
	response protoreflect.FieldDescriptor // its field in OperationResult

	requestID, minCommit, mailboxID protoreflect.FieldDescriptor // of the request, where it has them
	commit                          protoreflect.FieldDescriptor // of the response, where it has one
}

// methods are all unary RPCs of the contract by their paths, such as "/restante.v1.FolderService/GetFolder".
var methods = sync.OnceValue(func() map[string]*method {
	operation := fieldsByMessage((&restantev1.Operation{}).ProtoReflect().Descriptor())
	result := fieldsByMessage((&restantev1.OperationResult{}).ProtoReflect().Descriptor())
	found := map[string]*method{}
	for _, file := range []protoreflect.FileDescriptor{
		restantev1.File_restante_v1_admin_proto, restantev1.File_restante_v1_batch_proto,
		restantev1.File_restante_v1_content_proto, restantev1.File_restante_v1_directory_proto,
		restantev1.File_restante_v1_folder_proto, restantev1.File_restante_v1_mailbox_proto,
		restantev1.File_restante_v1_message_proto, restantev1.File_restante_v1_session_proto,
		restantev1.File_restante_v1_submission_proto, restantev1.File_restante_v1_sync_proto,
		restantev1.File_restante_v1_transport_proto,
	} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				rpc := service.Methods().Get(j)
				if rpc.IsStreamingClient() || rpc.IsStreamingServer() {
					continue
				}
				input, output := rpc.Input().Fields(), rpc.Output().Fields()
				path := "/" + string(service.FullName()) + "/" + string(rpc.Name())
				found[path] = &method{
					path:      path,
					request:   operation[rpc.Input().FullName()],
					response:  result[rpc.Output().FullName()],
					requestID: input.ByName("request_id"),
					minCommit: input.ByName("min_commit"),
					mailboxID: input.ByName("mailbox_id"),
					commit:    output.ByName("commit"),
				}
			}
		}
	}
	return found
})

// fieldsByMessage are the fields of a oneof by the messages that they hold.
func fieldsByMessage(of protoreflect.MessageDescriptor) map[protoreflect.FullName]protoreflect.FieldDescriptor {
	found := map[protoreflect.FullName]protoreflect.FieldDescriptor{}
	for i := range of.Fields().Len() {
		if field := of.Fields().Get(i); field.ContainingOneof() != nil && field.Message() != nil {
			found[field.Message().FullName()] = field
		}
	}
	return found
}

// share makes `to` hold what `from` holds. Nothing below the first level is copied: both share it.
func share(to, from proto.Message) {
	target, source := to.ProtoReflect(), from.ProtoReflect()
	source.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		target.Set(field, value)
		return true
	})
	if unknown := source.GetUnknown(); len(unknown) > 0 {
		target.SetUnknown(unknown)
	}
}
