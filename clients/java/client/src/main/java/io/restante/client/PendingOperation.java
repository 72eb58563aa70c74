package io.restante.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.Message;
import io.grpc.Status;
import io.restante.v1.Operation;
import io.restante.v1.OperationResult;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;

/** One operation that was handed to the multiplexer. */
final class PendingOperation {
    /** Told once what came of it: one of both is null. */
    interface Outcome {
        void done(Message answer, RestanteException failure);
    }

    /** Enough for an operation but for its request, with a token of 64 octets. */
    static final int HEAD_OCTETS = 112;

    private static final long MAX_TIMEOUT_MILLISECONDS = 600_000; // the contract's

    final Identity identity;
    final boolean independent;
    final boolean repeatable;
    final boolean waitedFor; // by a thread, which its outcome merely wakes
    final long deadline; // of System.nanoTime
    final int octets; // the most that it takes of a message

    private final MethodFacts method;
    private final Message request;
    private final Outcome outcome;
    private final AtomicBoolean ended = new AtomicBoolean();

    // What follows is the multiplexer's, under its lock.
    long id;
    Multiplexer.Lane lane;
    boolean abandoned; // nobody waits for it
    Multiplexer.ExecuteStream stream; // that it was sent on; null: it waits
    long giveUpAt; // set when a stream was lost: it is not sent again after this; 0: not set

    PendingOperation(
            MethodFacts method,
            Message request,
            Identity identity,
            long deadline,
            boolean independent,
            boolean waitedFor,
            Outcome outcome) {
        this.method = method;
        this.request = request;
        this.identity = identity;
        this.deadline = deadline;
        this.independent = independent;
        this.waitedFor = waitedFor;
        this.outcome = outcome;
        repeatable = method.mayRepeat(request);
        octets = octets(request);
    }

    static int octets(Message request) {
        return request.getSerializedSize() + HEAD_OCTETS;
    }

    /** As it is sent. */
    Operation message(ByteString token, long now) {
        long left = TimeUnit.NANOSECONDS.toMillis(deadline - now);
        return Operation.newBuilder()
                .setOperationId(id)
                .setSessionToken(token)
                .setTimeoutMilliseconds((int) Math.min(Math.max(1, left), MAX_TIMEOUT_MILLISECONDS))
                .setIndependent(independent)
                .setField(method.operation, request)
                .build();
    }

    /** The server has answered. */
    void answer(OperationResult result) {
        if (result.hasStatus()) {
            fail(RestanteException.of(result.getStatus()));
        } else if (!result.hasField(method.result)) {
            fail(RestanteException.plain(
                    Status.INTERNAL.withDescription("The result holds no response of this operation.")));
        } else if (ended.compareAndSet(false, true)) {
            outcome.done((Message) result.getField(method.result), null);
        }
    }

    void fail(RestanteException failure) {
        if (ended.compareAndSet(false, true)) {
            outcome.done(null, failure);
        }
    }

    /** Whether it waits for another stream. */
    boolean isPatient(long now, long patience) {
        if (giveUpAt == 0) {
            giveUpAt = now + patience;
        }
        return now - giveUpAt < 0;
    }
}
