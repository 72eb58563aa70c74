package io.restante.client;

import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.ForwardingClientCallListener.SimpleForwardingClientCallListener;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.time.Duration;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/**
 * A channel for the generated stubs on which unary calls are made as the client makes its own, and streams as the
 * session, once. The cause of what a stub throws is a {@link RestanteException}.
 */
final class SessionChannel extends Channel {
    private final Core core;
    private final String authority;

    SessionChannel(Core core, String authority) {
        this.core = core;
        this.authority = authority;
    }

    @Override
    public String authority() {
        return authority;
    }

    @Override
    public <Q, A> ClientCall<Q, A> newCall(MethodDescriptor<Q, A> method, CallOptions options) {
        CallOptions chosen = options.getExecutor() == null ? options.withExecutor(core.executor) : options;
        if (method.getType() == MethodDescriptor.MethodType.UNARY) {
            return unary(method, chosen);
        }
        return new SimpleForwardingClientCall<>(core.open(method, chosen, core.session.token())) {
            @Override
            public void start(Listener<A> listener, Metadata headers) {
                super.start(new Translating<>(listener), headers);
            }
        };
    }

    @SuppressWarnings("unchecked") // the contract's messages are messages
    private <Q, A> ClientCall<Q, A> unary(MethodDescriptor<Q, A> method, CallOptions options) {
        return (ClientCall<Q, A>) new UnaryCall<>((MethodDescriptor<Message, Message>) method, options);
    }

    /** Gives a status that is not OK its RestanteException as a cause. */
    private static final class Translating<A> extends SimpleForwardingClientCallListener<A> {
        private Translating(ClientCall.Listener<A> listener) {
            super(listener);
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            boolean known = status.isOk() || status.getCause() != null;
            super.onClose(known ? status : status.withCause(RestanteException.of(status, trailers)), trailers);
        }
    }

    /** Begins a logical call when its request is complete. */
    private final class UnaryCall<Q extends Message, A extends Message> extends ClientCall<Q, A> {
        private final MethodDescriptor<Q, A> method;
        private final CallOptions options;
        private Listener<A> listener;
        private Metadata headers;
        private Q request;
        private LogicalCall<Q, A> call; // under this object's lock, as what follows
        private boolean cancelled;

        private UnaryCall(MethodDescriptor<Q, A> method, CallOptions options) {
            this.method = method;
            this.options = options;
        }

        @Override
        public void start(Listener<A> told, Metadata added) {
            listener = told;
            headers = added;
        }

        @Override
        public void request(int messages) {} // the one that comes is always wanted

        @Override
        public void sendMessage(Q message) {
            request = message;
        }

        @Override
        public void halfClose() {
            long deadline = Core.deadline(core.config.timeout());
            if (options.getDeadline() != null) {
                long left = options.getDeadline().timeRemaining(TimeUnit.NANOSECONDS);
                deadline = Core.deadline(Duration.ofNanos(left));
            }
            LogicalCall<Q, A> made = new LogicalCall<>(core, method, request, core.session, deadline)
                    .waitedFor() // what is done when it is over, its executor does
                    .with(headers);
            synchronized (this) {
                if (cancelled) {
                    return;
                }
                call = made;
            }
            made.begin();
            Executor executor = options.getExecutor();
            made.future().whenComplete((answer, failure) -> executor.execute(() -> ended(answer, failure)));
        }

        private void ended(A answer, Throwable failure) {
            if (failure == null) {
                listener.onHeaders(new Metadata());
                listener.onMessage(answer);
                listener.onClose(Status.OK, new Metadata());
                return;
            }
            RestanteException found = RestanteException.of(failure);
            Metadata trailers = found.getTrailers() == null ? new Metadata() : found.getTrailers();
            listener.onClose(found.getStatus().withCause(found), trailers);
        }

        @Override
        public void cancel(String message, Throwable cause) {
            RestanteException why =
                    RestanteException.cancelled(message == null ? "The call was cancelled." : message);
            LogicalCall<Q, A> made;
            synchronized (this) {
                if (cancelled) {
                    return;
                }
                cancelled = true;
                made = call;
            }
            if (made != null) {
                made.cancel(why);
            } else {
                options.getExecutor().execute(() -> ended(null, why));
            }
        }
    }
}
