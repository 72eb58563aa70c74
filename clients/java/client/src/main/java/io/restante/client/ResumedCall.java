package io.restante.client;

import com.google.protobuf.ByteString;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.restante.v1.ErrorReason;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * Server streams, one after the other, until one ends by itself. What is only temporary, and a session that has expired,
 * is followed by another stream, unless they have failed at once for the client's timeout.
 *
 * <p>Messages are taken by one thread, and no more are asked for than a few ahead; {@link #close} may come from any.
 */
final class ResumedCall<Q, A> {
    private static final int MESSAGES_AHEAD = 2;

    private final Core core;
    private final MethodDescriptor<Q, A> method;
    private final Supplier<Q> request;
    private final BlockingQueue<Event<A>> events = new LinkedBlockingQueue<>();
    private final Retry retry = Retry.ofCall();
    private volatile Running current; // null: none is open
    private volatile boolean closed;
    private ByteString token = ByteString.EMPTY;
    private boolean ended;
    private boolean failing;
    private long failingSince;
    private long began;
    private long notBefore; // when the next stream is opened
    private boolean pausing;

    /** What a stream said: a message, or its end. `from` null: the call was closed. */
    private record Event<A>(Object from, A message, Status status, Metadata trailers) {}

    /**
     * Nothing happens before the first message is wanted.
     *
     * @param request what to ask for where the last message left off; null: there is nothing left
     */
    ResumedCall(Core core, MethodDescriptor<Q, A> method, Supplier<Q> request) {
        this.core = core;
        this.method = method;
        this.request = request;
    }

    private final class Running extends ClientCall.Listener<A> {
        private final ClientCall<Q, A> call;

        private Running(ClientCall<Q, A> call) {
            this.call = call;
        }

        @Override
        public void onMessage(A message) {
            events.add(new Event<>(this, message, null, null));
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            events.add(new Event<>(this, null, status, trailers));
        }
    }

    /** Whether it is over: no message comes any more. */
    boolean isEnded() {
        return ended;
    }

    /** The next message; null: none came until then, or it is over. Throws what the stream failed with for good. */
    A take(long until) throws InterruptedException {
        while (!ended) {
            if (closed) {
                ended = true;
                return null;
            }
            if (current == null) {
                if (!isTimeToOpen(until)) {
                    return null;
                }
                if (closed || !open()) {
                    ended = true;
                    return null;
                }
            }
            Event<A> event = events.poll(until - System.nanoTime(), TimeUnit.NANOSECONDS);
            if (event == null) {
                return null;
            }
            if (event.from != current || event.from == null) {
                continue;
            }
            if (event.message != null) {
                current.call.request(1);
                retry.worked();
                failing = false;
                return event.message;
            }
            current = null;
            if (event.status.isOk()) {
                ended = true;
            } else {
                failed(RestanteException.of(event.status, event.trailers));
            }
        }
        return null;
    }

    /** Whether the pause before the next stream is over; waits for it until then. */
    private boolean isTimeToOpen(long until) throws InterruptedException {
        while (pausing && !closed) {
            long left = notBefore - System.nanoTime();
            if (left <= 0) {
                pausing = false;
                return true;
            }
            long wait = Math.min(left, until - System.nanoTime());
            if (wait <= 0) {
                return false;
            }
            events.poll(wait, TimeUnit.NANOSECONDS); // only being closed interrupts it
        }
        return true;
    }

    private boolean open() {
        Q wanted = request.get();
        if (wanted == null) {
            return false;
        }
        token = core.session.token();
        began = System.nanoTime();
        Running opened = new Running(core.open(method, CallOptions.DEFAULT.withExecutor(Runnable::run), token));
        opened.call.start(opened, new Metadata());
        opened.call.request(MESSAGES_AHEAD);
        opened.call.sendMessage(wanted);
        opened.call.halfClose();
        current = opened; // not before: gRPC wants one thread at a time
        if (closed) {
            opened.call.cancel("It was closed.", null);
        }
        return true;
    }

    private void failed(RestanteException failure) {
        if (failure.reason() == ErrorReason.ERROR_REASON_SESSION_EXPIRED && retry.renewal()) {
            try {
                core.session.renew(token, Core.deadline(core.config.timeout()));
            } catch (RestanteException refused) {
                ended = true;
                throw refused;
            }
            return;
        }
        long now = System.nanoTime();
        if (!failing || now - began > Retry.LONGEST_CALL_PAUSE.toNanos()) { // it worked, if in silence
            failing = true;
            failingSince = now;
            retry.worked();
        }
        long delay = retry.delay(failure);
        if (!failure.isTemporary() || now + delay - failingSince > core.config.timeout().toNanos()) {
            ended = true;
            throw failure.here();
        }
        pausing = true;
        notBefore = now + delay;
    }

    /** Ends it, at the server too; harmless to repeat. */
    void close() {
        closed = true;
        Running open = current;
        if (open != null) {
            open.call.cancel("It was closed.", null);
        }
        events.add(new Event<>(null, null, null, null)); // wakes who waits
    }
}
