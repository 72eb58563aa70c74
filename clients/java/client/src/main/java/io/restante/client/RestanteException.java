package io.restante.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.restante.v1.ErrorReason;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;

/**
 * What every failed call of this package throws. It is a {@link StatusRuntimeException}, so that code that knows only
 * gRPC understands it.
 */
public final class RestanteException extends StatusRuntimeException {
    private static final long serialVersionUID = 1L;
    private static final String DOMAIN = "restante";

    private final String reasonName;
    private final transient Map<String, String> metadata;
    private final Duration retryDelay;
    private final transient List<FieldViolation> violations;

    private RestanteException(
            Status status,
            Metadata trailers,
            String reasonName,
            Map<String, String> metadata,
            Duration retryDelay,
            List<FieldViolation> violations) {
        super(status, trailers);
        this.reasonName = reasonName;
        this.metadata = metadata;
        this.retryDelay = retryDelay;
        this.violations = violations;
    }

    /**
     * The exception of whatever a generated stub or a future threw. One that is already of this class, or was caused by
     * one, is returned as it is; what is no gRPC status has the code UNKNOWN.
     *
     * @param thrown what was thrown
     * @return the exception
     */
    public static RestanteException of(Throwable thrown) {
        for (Throwable each = thrown; each != null; each = each.getCause()) {
            if (each instanceof RestanteException known) {
                return known;
            }
            if (each instanceof StatusRuntimeException found && !(each.getCause() instanceof RestanteException)) {
                return of(found.getStatus(), found.getTrailers());
            }
            if (each instanceof StatusException found && !(each.getCause() instanceof RestanteException)) {
                return of(found.getStatus(), found.getTrailers());
            }
        }
        return plain(Status.UNKNOWN.withDescription(String.valueOf(thrown)).withCause(thrown));
    }

    /**
     * The exception that a google.rpc.Status tells of, such as that of one result of ExecuteOnce.
     *
     * @param status a status that is not OK
     * @return the exception
     */
    public static RestanteException of(com.google.rpc.Status status) {
        StatusRuntimeException found = StatusProto.toStatusRuntimeException(status);
        return of(found.getStatus(), found.getTrailers(), status);
    }

    static RestanteException of(Status status, Metadata trailers) {
        return of(status, trailers, StatusProto.fromStatusAndTrailers(status, trailers));
    }

    private static RestanteException of(Status status, Metadata trailers, com.google.rpc.Status told) {
        String reason = "";
        Map<String, String> metadata = Map.of();
        Duration delay = null;
        List<FieldViolation> violations = List.of();
        for (Any detail : told.getDetailsList()) {
            try {
                if (detail.is(ErrorInfo.class)) {
                    ErrorInfo info = detail.unpack(ErrorInfo.class);
                    if (info.getDomain().equals(DOMAIN)) {
                        reason = info.getReason();
                        metadata = Map.copyOf(info.getMetadataMap());
                    }
                } else if (detail.is(RetryInfo.class)) {
                    var asked = detail.unpack(RetryInfo.class).getRetryDelay();
                    delay = Duration.ofSeconds(asked.getSeconds(), asked.getNanos());
                } else if (detail.is(BadRequest.class)) {
                    violations = detail.unpack(BadRequest.class).getFieldViolationsList().stream()
                            .map(each -> new FieldViolation(each.getField(), each.getDescription()))
                            .toList();
                }
            } catch (InvalidProtocolBufferException damaged) {
                continue; // the code and the text say what is known
            }
        }
        return new RestanteException(status, trailers, reason, metadata, delay, violations);
    }

    /** One that this side made. */
    static RestanteException plain(Status status) {
        return new RestanteException(status, null, "", Map.of(), null, List.of());
    }

    /** What the calls of a session get after its own logoff, without asking the server. */
    static RestanteException loggedOff() {
        Status status = Status.UNAUTHENTICATED.withDescription("Logged off.");
        return new RestanteException(status, null, "SESSION_REVOKED", Map.of(), null, List.of());
    }

    static RestanteException messageNotFound(long messageId) {
        String id = Long.toString(messageId);
        Status status = Status.NOT_FOUND.withDescription("The message does not exist (message_id " + id + ").");
        return new RestanteException(status, null, "MESSAGE_NOT_FOUND", Map.of("message_id", id), null, List.of());
    }

    static RestanteException cancelled(String message) {
        return plain(Status.CANCELLED.withDescription(message));
    }

    static RestanteException closed() {
        return cancelled("The client was closed.");
    }

    static RestanteException late() {
        return plain(Status.DEADLINE_EXCEEDED.withDescription("The call's time ran out."));
    }

    static RestanteException unreachable(String address, RestanteException cause) {
        String why = deepest(cause);
        return plain(Status.UNAVAILABLE
                .withDescription("Cannot reach " + address + ": " + why)
                .withCause(cause));
    }

    /** What the operating system or TLS said, below what gRPC made of it. */
    private static String deepest(Throwable thrown) {
        Throwable cause = thrown;
        while (cause.getCause() != null && cause.getCause() != cause) {
            cause = cause.getCause();
        }
        return cause.getMessage() == null ? cause.toString() : cause.getMessage();
    }

    static RestanteException unavailable(String message) {
        return plain(Status.UNAVAILABLE.withDescription(message));
    }

    /** The waiting thread was interrupted: it stays so. */
    static RestanteException interrupted(InterruptedException cause) {
        Thread.currentThread().interrupt();
        return plain(Status.CANCELLED.withDescription("The waiting thread was interrupted.").withCause(cause));
    }

    /** The same, as thrown by this thread. */
    RestanteException here() {
        Status status = getStatus().withCause(this);
        return new RestanteException(status, getTrailers(), reasonName, metadata, retryDelay, violations);
    }

    /**
     * The contract's reason: {@link ErrorReason#ERROR_REASON_UNSPECIFIED} where the failure was not the server's (a lost
     * connection, a deadline that passed or a call that was cancelled on this side), and {@link
     * ErrorReason#UNRECOGNIZED} where this version does not know it.
     *
     * @return the reason
     */
    public ErrorReason reason() {
        return reasonName.isEmpty() ? ErrorReason.ERROR_REASON_UNSPECIFIED : Reasons.named(reasonName);
    }

    /**
     * The reason as the server named it, such as FOLDER_NOT_FOUND, also where this version does not know it.
     *
     * @return its name, empty without a reason
     */
    public String reasonName() {
        return reasonName;
    }

    /**
     * The facts that the reason declares, such as {@code folder_id}.
     *
     * @return them by their names
     */
    public Map<String, String> metadata() {
        return metadata == null ? Map.of() : metadata; // they do not outlive serialisation
    }

    /**
     * How long to wait before another attempt, where the server said so.
     *
     * @return the delay
     */
    public Optional<Duration> retryDelay() {
        return Optional.ofNullable(retryDelay);
    }

    /**
     * All bad fields of a refused request, the reason's field first.
     *
     * @return them, empty where no field is at fault
     */
    public List<FieldViolation> violations() {
        return violations == null ? List.of() : violations; // they do not outlive serialisation
    }

    /**
     * The gRPC status code.
     *
     * @return the code
     */
    public Status.Code code() {
        return getStatus().getCode();
    }

    /** The reason (or the code), the server's sentence, which names the facts, and the bad fields. */
    @Override
    public String getMessage() {
        String name = reasonName == null || reasonName.isEmpty() ? code().name() : reasonName;
        String description = getStatus().getDescription();
        return (description == null ? name : name + ": " + description) + badFields();
    }

    /** Names the bad fields. It is empty where the only one is the reason's, which the server's sentence names. */
    private String badFields() {
        List<FieldViolation> bad = violations();
        if (bad.isEmpty() || bad.size() == 1 && bad.get(0).field().equals(metadata().get("field"))) {
            return "";
        }
        return bad.stream()
                .map(each -> each.field() + " (" + each.problem() + ")")
                .collect(Collectors.joining("; ", " Bad fields: ", "."));
    }

    /** Whether the same call may succeed a little later, on another connection. */
    boolean isTemporary() {
        return code() == Status.Code.UNAVAILABLE;
    }

    /** Whether it says that the session is no good any more. */
    boolean isOver() {
        return code() == Status.Code.UNAUTHENTICATED;
    }
}
