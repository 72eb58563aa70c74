package io.restante.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.ForwardingClientCallListener.SimpleForwardingClientCallListener;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.restante.v1.CommitToken;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executor;
import java.util.concurrent.Executors;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;

/** What the parts of one client share. */
final class Core {
    private static final long IDLE_SECONDS = 10; // of a thread

    final RestanteConfig config;
    final Executor executor;
    final ScheduledThreadPoolExecutor timer;
    final Link link;
    final Multiplexer operations;
    final SessionKeeper session;
    final WatchStream watching;

    private final Map<Long, CommitToken> commits = new HashMap<>(); // the latest write to each mailbox seen here
    private final Set<LogicalCall<?, ?>> pausing = ConcurrentHashMap.newKeySet();
    private volatile boolean closed;

    Core(RestanteConfig config) {
        this(config, config::openChannel);
    }

    Core(RestanteConfig config, Supplier<ManagedChannel> open) {
        this.config = config;
        ThreadFactory threads = daemons();
        executor = config.executor()
                .orElseGet(() -> new ThreadPoolExecutor(
                        0, Integer.MAX_VALUE, IDLE_SECONDS, TimeUnit.SECONDS, new SynchronousQueue<>(), threads));
        timer = new ScheduledThreadPoolExecutor(1, threads);
        timer.setRemoveOnCancelPolicy(true);
        link = new Link(open, timer);
        operations = new Multiplexer(link, timer, executor, config.patience());
        session = new SessionKeeper(this);
        watching = new WatchStream(this);
    }

    private static ThreadFactory daemons() {
        AtomicInteger number = new AtomicInteger();
        ThreadFactory plain = Executors.defaultThreadFactory();
        return work -> {
            Thread made = plain.newThread(work);
            made.setName("restante-" + number.incrementAndGet());
            made.setDaemon(true);
            return made;
        };
    }

    boolean isClosed() {
        return closed;
    }

    void close() {
        closed = true;
        session.close();
        operations.close();
        link.close();
        watching.wakeAll();
        pausing.forEach(each -> each.fail(RestanteException.closed()));
        timer.shutdown();
    }

    // --- Calls ---

    /** The moment, of System.nanoTime, when a call must be over: the context's deadline or this, what comes first. */
    static long deadline(Duration timeout) {
        long ends = timeout.toNanos();
        Deadline given = Context.current().getDeadline();
        if (given != null) {
            ends = Math.min(ends, given.timeRemaining(TimeUnit.NANOSECONDS));
        }
        return System.nanoTime() + ends;
    }

    /** Waits for a call that is made as the session, completed and repeated. */
    <Q extends Message, A extends Message> A call(MethodDescriptor<Q, A> method, Q request, Duration timeout) {
        return new LogicalCall<>(this, method, request, session, deadline(timeout)).waitedFor().begin().await();
    }

    /** Waits for a call that is repeated only where its answer was lost. */
    <Q extends Message, A extends Message> A once(MethodDescriptor<Q, A> method, Q request, long deadline) {
        return new LogicalCall<>(this, method, request, session, deadline).once().waitedFor().begin().await();
    }

    /** Has something done after a pause; false: the client is closed. */
    boolean after(long nanoseconds, Runnable work) {
        try {
            timer.schedule(() -> executor.execute(work), nanoseconds, TimeUnit.NANOSECONDS);
            return true;
        } catch (RejectedExecutionException over) {
            return false;
        }
    }

    /** Repeats a call after a pause, or fails it when the client is closed before. */
    void repeatAfter(long nanoseconds, LogicalCall<?, ?> call) {
        pausing.add(call);
        boolean scheduled = after(nanoseconds, () -> {
            pausing.remove(call);
            call.attempt();
        });
        if (closed || !scheduled) {
            pausing.remove(call);
            call.fail(RestanteException.closed());
        }
    }

    // --- Streams ---

    /** A call on the present connection with a session's token in its metadata, which releases it at its end. */
    <Q, A> ClientCall<Q, A> open(MethodDescriptor<Q, A> method, CallOptions options, ByteString token) {
        Link.Connection used = link.acquire();
        return new AuthorizedCall<>(used.newCall(method, options), token, () -> link.release(used));
    }

    /** Adds a token to the metadata, and tells of the end. */
    private static final class AuthorizedCall<Q, A> extends SimpleForwardingClientCall<Q, A> {
        private final ByteString token;
        private final Runnable ended;

        private AuthorizedCall(ClientCall<Q, A> call, ByteString token, Runnable ended) {
            super(call);
            this.token = token;
            this.ended = ended;
        }

        @Override
        public void start(Listener<A> listener, Metadata headers) {
            headers.merge(RestanteConfig.authorization(token));
            super.start(
                    new SimpleForwardingClientCallListener<A>(listener) {
                        @Override
                        public void onClose(Status status, Metadata trailers) {
                            ended.run();
                            super.onClose(status, trailers);
                        }
                    },
                    headers);
        }
    }

    // --- Reading one's writes ---

    /** The latest write to a mailbox seen here (0: the session's own); null: none. */
    CommitToken minCommit(long mailboxId) {
        long wanted = mailboxId != 0 ? mailboxId : session.present().getMailboxId();
        synchronized (commits) {
            return commits.get(wanted);
        }
    }

    void remember(CommitToken commit) {
        synchronized (commits) {
            commits.merge(commit.getMailboxId(), commit, (known, found) -> isLater(found, known) ? found : known);
        }
    }

    void forgetCommits() {
        synchronized (commits) {
            commits.clear();
        }
    }

    private static boolean isLater(CommitToken one, CommitToken other) {
        return one.getEpoch() != other.getEpoch()
                ? one.getEpoch() > other.getEpoch()
                : one.getChangeNumber() > other.getChangeNumber();
    }
}
