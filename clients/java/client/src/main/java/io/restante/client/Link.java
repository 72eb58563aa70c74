package io.restante.client;

import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * Keeps the connection to the server. A stream that drained asks for a fresh one, which may reach another server; the
 * old one is closed when nothing uses it any more.
 */
final class Link {
    private static final long RETIRED_MINUTES = 10; // how long an old connection may finish what it has

    private final Supplier<ManagedChannel> open;
    private final ScheduledExecutorService timer;
    private final Map<Connection, ScheduledFuture<?>> retired = new HashMap<>();
    private Connection current;
    private boolean closed;

    Link(Supplier<ManagedChannel> open, ScheduledExecutorService timer) {
        this.open = open;
        this.timer = timer;
    }

    /** One connection. Whoever acquired it releases it, once. */
    static final class Connection {
        private final ManagedChannel channel;
        private int users;

        private Connection(ManagedChannel channel) {
            this.channel = channel;
        }

        <Q, A> ClientCall<Q, A> newCall(MethodDescriptor<Q, A> method, CallOptions options) {
            return channel.newCall(method, options);
        }
    }

    /** The present connection. One that waits to be made again is made now: its users have paused already. */
    Connection acquire() {
        Connection acquired;
        synchronized (this) {
            if (closed) {
                throw RestanteException.closed();
            }
            if (current == null) {
                current = new Connection(open.get());
            }
            current.users++;
            acquired = current;
        }
        if (acquired.channel.getState(false) == ConnectivityState.TRANSIENT_FAILURE) {
            acquired.channel.resetConnectBackoff();
        }
        return acquired;
    }

    synchronized void release(Connection used) {
        used.users--;
        if (used.users == 0 && retired.containsKey(used)) {
            drop(used);
        }
    }

    /** Has acquire give a fresh connection from now on, unless it does so already. */
    synchronized void retire(Connection old) {
        if (current != old || closed) {
            return;
        }
        current = null;
        retired.put(old, timer.schedule(() -> expire(old), RETIRED_MINUTES, TimeUnit.MINUTES));
        if (old.users == 0) {
            drop(old);
        }
    }

    private synchronized void expire(Connection old) {
        drop(old);
    }

    private void drop(Connection old) {
        ScheduledFuture<?> end = retired.remove(old);
        if (end != null) {
            end.cancel(false);
            old.channel.shutdownNow();
        }
    }

    synchronized void close() {
        closed = true;
        for (Connection old : retired.keySet().toArray(new Connection[0])) {
            drop(old);
        }
        if (current != null) {
            current.channel.shutdownNow();
            current = null;
        }
    }
}
