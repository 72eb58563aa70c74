package io.restante.conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.TypeRegistry;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.MethodDescriptor;
import io.grpc.ServiceDescriptor;
import io.restante.v1.AdminServiceGrpc;
import io.restante.v1.BatchServiceGrpc;
import io.restante.v1.ContentServiceGrpc;
import io.restante.v1.DirectoryServiceGrpc;
import io.restante.v1.FolderServiceGrpc;
import io.restante.v1.JobServiceGrpc;
import io.restante.v1.MailboxServiceGrpc;
import io.restante.v1.MessageServiceGrpc;
import io.restante.v1.SessionServiceGrpc;
import io.restante.v1.SubmissionServiceGrpc;
import io.restante.v1.SyncServiceGrpc;
import io.restante.v1.TransportServiceGrpc;
import java.util.Collection;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** RPCs by their names, and messages as JSON. */
final class Contract {
    /** What a google.rpc.Status holds as Any. */
    private static final TypeRegistry DETAILS = TypeRegistry.newBuilder()
            .add(BadRequest.getDescriptor())
            .add(ErrorInfo.getDescriptor())
            .add(RetryInfo.getDescriptor())
            .build();

    private static final JsonFormat.Printer PRINTER =
            JsonFormat.printer().usingTypeRegistry(DETAILS).omittingInsignificantWhitespace();

    private static final Map<String, MethodDescriptor<?, ?>> METHODS = Stream.of(
                    AdminServiceGrpc.getServiceDescriptor(),
                    BatchServiceGrpc.getServiceDescriptor(),
                    ContentServiceGrpc.getServiceDescriptor(),
                    DirectoryServiceGrpc.getServiceDescriptor(),
                    FolderServiceGrpc.getServiceDescriptor(),
                    JobServiceGrpc.getServiceDescriptor(),
                    MailboxServiceGrpc.getServiceDescriptor(),
                    MessageServiceGrpc.getServiceDescriptor(),
                    SessionServiceGrpc.getServiceDescriptor(),
                    SubmissionServiceGrpc.getServiceDescriptor(),
                    SyncServiceGrpc.getServiceDescriptor(),
                    TransportServiceGrpc.getServiceDescriptor())
            .map(ServiceDescriptor::getMethods)
            .flatMap(Collection::stream)
            .collect(Collectors.toUnmodifiableMap(MethodDescriptor::getFullMethodName, Function.identity()));

    private Contract() {}

    /** The RPC of a name such as FolderService/GetFolder. */
    @SuppressWarnings("unchecked") // all are of messages
    static MethodDescriptor<Message, Message> method(String name) {
        MethodDescriptor<?, ?> found = METHODS.get("restante.v1." + name);
        if (found == null) {
            throw new IllegalArgumentException("there is no RPC " + name);
        }
        return (MethodDescriptor<Message, Message>) found;
    }

    /** A request that is told as JSON; null: empty. */
    static Message request(MethodDescriptor<Message, Message> method, JsonElement told) {
        return read(told, prototype(method.getRequestMarshaller()).newBuilderForType());
    }

    private static Message prototype(MethodDescriptor.Marshaller<Message> marshaller) {
        return (Message) ((MethodDescriptor.PrototypeMarshaller<?>) marshaller).getMessagePrototype();
    }

    static Message read(JsonElement told, Message.Builder into) {
        try {
            if (told != null) {
                JsonFormat.parser().merge(told.toString(), into);
            }
            return into.build();
        } catch (InvalidProtocolBufferException mistake) {
            throw new IllegalArgumentException(mistake);
        }
    }

    static JsonElement shown(Message message) {
        try {
            return JsonParser.parseString(PRINTER.print(message));
        } catch (InvalidProtocolBufferException mistake) {
            throw new IllegalArgumentException(mistake);
        }
    }

    /** The field of Operation that holds the requests of an RPC. */
    static FieldDescriptor requestField(Descriptor holder, MethodDescriptor<Message, Message> method) {
        return fieldOf(holder, prototype(method.getRequestMarshaller()).getDescriptorForType());
    }

    /** The field of OperationResult that holds the responses of an RPC. */
    static FieldDescriptor responseField(Descriptor holder, MethodDescriptor<Message, Message> method) {
        return fieldOf(holder, prototype(method.getResponseMarshaller()).getDescriptorForType());
    }

    private static FieldDescriptor fieldOf(Descriptor holder, Descriptor kind) {
        return holder.getFields().stream()
                .filter(field -> field.getJavaType() == FieldDescriptor.JavaType.MESSAGE
                        && field.getMessageType().equals(kind))
                .findFirst()
                .orElseThrow(() -> new IllegalArgumentException(kind.getName() + " is no operation"));
    }
}
