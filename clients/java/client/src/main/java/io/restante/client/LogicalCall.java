package io.restante.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.restante.v1.CommitToken;
import io.restante.v1.ErrorReason;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * A unary call with all its attempts: one request_id, what it must see of one's own writes, renewal of an expired
 * session, pauses as long as the server asks for.
 *
 * <p>It goes by the Execute stream, unless its kind, its size or metadata of its own ask for a call by itself.
 */
final class LogicalCall<Q extends Message, A extends Message> {
    private static final long GRACE = TimeUnit.MILLISECONDS.toNanos(500); // for the server to say that time is out

    private final Core core;
    private final MethodDescriptor<Q, A> method;
    private final MethodFacts facts;
    private final Identity identity;
    private final long deadline;
    private final Retry retry = Retry.ofCall();
    private final CompletableFuture<A> result = new CompletableFuture<>();

    private Q request;
    private boolean hasOwnCommit;
    private boolean once;
    private boolean waitedFor;
    private boolean independent = true;
    private Metadata metadata;
    private Context.CancellationListener listener;
    private Runnable abandon = () -> {}; // ends the present attempt; under this object's lock

    LogicalCall(Core core, MethodDescriptor<Q, A> method, Q request, Identity identity, long deadline) {
        this.core = core;
        this.method = method;
        this.request = request;
        this.identity = identity;
        this.deadline = deadline;
        facts = MethodFacts.of(method);
    }

    /** As it is: nothing is filled in, and nothing is repeated that was answered. */
    LogicalCall<Q, A> once() {
        once = true;
        return this;
    }

    /** A thread is going to wait for it, and runs nothing else when it is done. */
    LogicalCall<Q, A> waitedFor() {
        waitedFor = true;
        return this;
    }

    /** Begins only after operations of this session that were begun earlier have answered. */
    LogicalCall<Q, A> inOrder() {
        independent = false;
        return this;
    }

    /** Travels with metadata of its own. */
    LogicalCall<Q, A> with(Metadata added) {
        if (!added.keys().isEmpty()) {
            metadata = added;
        }
        return this;
    }

    LogicalCall<Q, A> begin() {
        if (!once) {
            request = facts.identified(request);
            CommitToken seen = facts.lacksMinCommit(request) ? core.minCommit(facts.mailboxId(request)) : null;
            if (seen != null) {
                request = facts.withMinCommit(request, seen);
                hasOwnCommit = true;
            }
        }
        Context context = Context.current();
        if (context != Context.ROOT) {
            listener = ended -> cancel(context.getDeadline() != null && context.getDeadline().isExpired()
                    ? RestanteException.late()
                    : RestanteException.cancelled("The context was cancelled."));
            context.addListener(listener, Runnable::run);
        }
        result.whenComplete((answer, failure) -> {
            if (listener != null) {
                context.removeListener(listener);
            }
            if (failure instanceof CancellationException) {
                cancel(RestanteException.cancelled("The future was cancelled."));
            }
        });
        attempt();
        return this;
    }

    CompletableFuture<A> future() {
        return result;
    }

    /** The answer, waited for. */
    A await() {
        try {
            return result.get(deadline - System.nanoTime() + GRACE, TimeUnit.NANOSECONDS);
        } catch (TimeoutException late) {
            cancel(RestanteException.late());
            throw RestanteException.late();
        } catch (InterruptedException interrupted) {
            cancel(RestanteException.cancelled("The waiting thread was interrupted."));
            throw RestanteException.interrupted(interrupted);
        } catch (ExecutionException failed) {
            throw RestanteException.of(failed).here();
        }
    }

    /** Ends it, at the server too. */
    void cancel(RestanteException why) {
        fail(why);
        Runnable present;
        synchronized (this) {
            present = abandon;
        }
        present.run();
    }

    void fail(RestanteException failure) {
        result.completeExceptionally(failure);
    }

    void attempt() {
        if (result.isDone()) {
            return;
        }
        if (deadline - System.nanoTime() <= 0) {
            fail(RestanteException.late());
            return;
        }
        ByteString token = identity.token();
        if (facts.operation != null && metadata == null && PendingOperation.octets(request) <= Multiplexer.MAX_BATCH_OCTETS
                || once && facts.operation != null) {
            PendingOperation operation = new PendingOperation(
                    facts, request, identity, deadline, independent, waitedFor,
                    (answer, failure) -> done(answer, failure, token));
            abandonBy(() -> core.operations.abandon(operation, RestanteException.cancelled("It was given up.")));
            core.operations.start(operation);
        } else {
            byItself(token);
        }
        if (result.isDone()) { // it was cancelled meanwhile
            cancel(RestanteException.cancelled("It was given up."));
        }
    }

    private synchronized void abandonBy(Runnable way) {
        abandon = way;
    }

    private void byItself(ByteString token) {
        ClientCall<Q, A> call;
        try {
            Deadline ends = Deadline.after(deadline - System.nanoTime(), TimeUnit.NANOSECONDS);
            CallOptions options = CallOptions.DEFAULT.withDeadline(ends).withExecutor(core.executor);
            call = core.open(method, options, token);
        } catch (RestanteException failure) {
            done(null, failure, token);
            return;
        }
        Metadata headers = new Metadata();
        if (metadata != null) {
            headers.merge(metadata);
        }
        call.start(
                new ClientCall.Listener<A>() {
                    private A answer;

                    @Override
                    public void onMessage(A message) {
                        answer = message;
                    }

                    @Override
                    public void onClose(Status status, Metadata trailers) {
                        if (status.isOk() && answer == null) {
                            status = Status.INTERNAL.withDescription("The call ended without a response.");
                        }
                        done(answer, status.isOk() ? null : RestanteException.of(status, trailers), token);
                    }
                },
                headers);
        call.request(2); // as gRPC does it: the second would be a fault
        call.sendMessage(request);
        call.halfClose();
        abandonBy(() -> call.cancel("It was given up.", null)); // not before: gRPC wants one thread at a time
    }

    @SuppressWarnings("unchecked") // the field of the result is the response's
    private void done(Message answer, RestanteException failure, ByteString token) {
        if (failure != null) {
            failed(failure, token);
            return;
        }
        CommitToken commit = facts.commit(answer);
        if (commit != null) {
            core.remember(commit);
        }
        result.complete((A) answer);
    }

    private void failed(RestanteException failure, ByteString token) {
        if (result.isDone() || once) {
            fail(failure);
        } else if (hasOwnCommit && failure.reason() == ErrorReason.ERROR_REASON_EPOCH_CHANGED) {
            core.forgetCommits(); // the store was restored: what was written before may be gone
            request = facts.withMinCommit(request, null);
            hasOwnCommit = false;
            attempt();
        } else if (identity == core.session
                && failure.reason() == ErrorReason.ERROR_REASON_SESSION_EXPIRED
                && retry.renewal()) {
            core.executor.execute(() -> renewed(token));
        } else if (shouldRepeat(facts, request, failure)) {
            long delay = retry.delay(failure);
            if (deadline - System.nanoTime() - delay <= 0) {
                fail(failure);
            } else {
                core.repeatAfter(delay, this);
            }
        } else {
            fail(failure);
        }
    }

    private void renewed(ByteString token) {
        try {
            core.session.renew(token, deadline);
        } catch (RestanteException failure) {
            fail(failure);
            return;
        }
        attempt();
    }

    /** Whether a call that failed so may succeed a little later, and do no harm. */
    static boolean shouldRepeat(MethodFacts facts, Message request, RestanteException failure) {
        boolean passes =
                failure.isTemporary() || failure.reason() == ErrorReason.ERROR_REASON_TOO_MANY_OPERATIONS;
        return passes && facts.mayRepeat(request);
    }
}
