package io.restante.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import io.grpc.MethodDescriptor;
import io.grpc.protobuf.ProtoMethodDescriptorSupplier;
import io.restante.v1.AuthenticateRequest;
import io.restante.v1.CommitToken;
import io.restante.v1.Operation;
import io.restante.v1.OperationResult;
import io.restante.v1.SessionServiceGrpc;
import java.security.SecureRandom;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Function;
import java.util.stream.Collectors;

/** What there is to know of a unary RPC beside its types. Fields are null where the messages do not have them. */
final class MethodFacts {
    private static final int REQUEST_ID_OCTETS = 16;
    private static final SecureRandom RANDOM = new SecureRandom();
    private static final Map<Descriptor, FieldDescriptor> OPERATIONS = byMessage(Operation.getDescriptor());
    private static final Map<Descriptor, FieldDescriptor> RESULTS = byMessage(OperationResult.getDescriptor());
    private static final Map<String, MethodFacts> KNOWN = new ConcurrentHashMap<>();

    /** The request's field in Operation; null: it is no operation of a batch. */
    final FieldDescriptor operation;

    /** The response's field in OperationResult. */
    final FieldDescriptor result;

    private final String name;
    private final FieldDescriptor requestId;
    private final FieldDescriptor minCommit;
    private final FieldDescriptor mailboxId;
    private final FieldDescriptor commit;

    private MethodFacts(MethodDescriptor<?, ?> method) {
        if (!(method.getSchemaDescriptor() instanceof ProtoMethodDescriptorSupplier supplier)) {
            throw new IllegalArgumentException(method.getFullMethodName() + " is no RPC of a generated stub");
        }
        Descriptor request = supplier.getMethodDescriptor().getInputType();
        Descriptor response = supplier.getMethodDescriptor().getOutputType();
        name = method.getFullMethodName();
        operation = OPERATIONS.get(request);
        result = RESULTS.get(response);
        requestId = request.findFieldByName("request_id");
        minCommit = request.findFieldByName("min_commit");
        mailboxId = request.findFieldByName("mailbox_id");
        commit = response.findFieldByName("commit");
    }

    /** The facts of a unary RPC. */
    static MethodFacts of(MethodDescriptor<?, ?> method) {
        MethodFacts known = KNOWN.get(method.getFullMethodName());
        if (known == null) {
            if (method.getType() != MethodDescriptor.MethodType.UNARY) {
                throw new IllegalArgumentException(method.getFullMethodName() + " is not unary");
            }
            known = KNOWN.computeIfAbsent(method.getFullMethodName(), ignored -> new MethodFacts(method));
        }
        return known;
    }

    private static Map<Descriptor, FieldDescriptor> byMessage(Descriptor holder) {
        return holder.getOneofs().get(0).getFields().stream()
                .collect(Collectors.toUnmodifiableMap(FieldDescriptor::getMessageType, Function.identity()));
    }

    static ByteString newRequestId() {
        byte[] octets = new byte[REQUEST_ID_OCTETS];
        RANDOM.nextBytes(octets);
        return ByteString.copyFrom(octets);
    }

    /** The request, with a request_id where it lacks one. */
    <Q extends Message> Q identified(Q request) {
        if (requestId == null || !((ByteString) request.getField(requestId)).isEmpty()) {
            return request;
        }
        return with(request, requestId, newRequestId());
    }

    /** Whether a read may be given a commit that it must see. */
    boolean lacksMinCommit(Message request) {
        return minCommit != null && !request.hasField(minCommit);
    }

    long mailboxId(Message request) {
        return mailboxId == null ? 0 : (Long) request.getField(mailboxId);
    }

    /** The request that must see a commit; null: none. */
    <Q extends Message> Q withMinCommit(Q request, CommitToken token) {
        return with(request, minCommit, token);
    }

    @SuppressWarnings("unchecked") // a builder makes what it was made of
    private static <Q extends Message> Q with(Q request, FieldDescriptor field, Object value) {
        Message.Builder builder = request.toBuilder();
        return (Q) (value == null ? builder.clearField(field) : builder.setField(field, value)).build();
    }

    /** The commit of a write; null without one. */
    CommitToken commit(Message response) {
        return commit != null && response.hasField(commit) ? (CommitToken) response.getField(commit) : null;
    }

    /**
     * Whether a call whose answer was lost may be sent again. Whatever must not happen twice carries a request_id; what
     * remains is a later step of a SASL exchange, which is good once, and a change of password, which would be answered
     * by a complaint about the old one.
     */
    boolean mayRepeat(Message request) {
        if (request instanceof AuthenticateRequest step) {
            return step.getExchange().isEmpty();
        }
        return !name.equals(SessionServiceGrpc.getChangePasswordMethod().getFullMethodName());
    }
}
