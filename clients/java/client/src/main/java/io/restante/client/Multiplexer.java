package io.restante.client;

import com.google.protobuf.ByteString;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.restante.v1.BatchServiceGrpc;
import io.restante.v1.ExecuteRequest;
import io.restante.v1.ExecuteResponse;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Executor;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;

/**
 * Runs operations of any number of sessions on one Execute stream.
 *
 * <p>Whatever waits when the stream is free goes into one message; there is no timer. A stream that is lost is replaced,
 * and what it had not answered is sent again, in the order it was given. A stream that drains takes nothing new and
 * finishes what it has. gRPC is never called, and nobody is told anything, while the lock (this) is held.
 */
final class Multiplexer {
    // The bounds of Execute (protos/restante/v1/batch.proto).
    static final int MAX_BATCH_OPERATIONS = 256;
    static final int MAX_BATCH_OCTETS = 1 << 20;
    static final int MAX_IN_FLIGHT = 1_000; // of the 1024 at which the server stops reading
    static final int MAX_SESSION_IN_FLIGHT = 64; // beyond, the server answers TOO_MANY_OPERATIONS
    private static final int MAX_CANCELS = 1_000; // in one message; 10 octets each

    private static final int RESPONSES_AHEAD = 8; // that gRPC may hold
    private static final long EXPIRY_MILLISECONDS = 500;
    private static final long EXPIRY_GRACE = TimeUnit.MILLISECONDS.toNanos(250); // for the server's own answer
    private static final long FIRST_PAUSE = Retry.FIRST_STREAM_PAUSE.toNanos();
    private static final long LONGEST_PAUSE = TimeUnit.SECONDS.toNanos(1);

    private final Link link;
    private final ScheduledExecutorService timer;
    private final Executor executor;
    private final long patience;
    private RestanteException trouble; // why the last stream never worked

    private final Map<Identity, Lane> lanes = new HashMap<>();
    private final Set<ExecuteStream> streams = new HashSet<>();
    private Deque<Lane> waiting = new ArrayDeque<>(); // those that have something to send, first come first served
    private ExecuteStream stream; // takes new operations; null: none is open
    private Link.Connection drained; // of the last stream, where it drained; not used, only compared
    private long lastId;
    private long pause = FIRST_PAUSE;
    private ScheduledFuture<?> resting; // until the next stream is opened
    private ScheduledFuture<?> expiring; // until deadlines are looked at; null: nothing is under way
    private boolean closed;

    Multiplexer(Link link, ScheduledExecutorService timer, Executor executor, Duration patience) {
        this.link = link;
        this.timer = timer;
        this.executor = executor;
        this.patience = patience.toNanos();
    }

    /** Holds the operations of one session, in order. */
    static final class Lane {
        private final Identity identity;
        private final Deque<PendingOperation> pending = new ArrayDeque<>();
        private boolean queued; // among those that wait
        private int inFlight;

        // Order holds only on one stream and under one token: what is sent elsewhere waits until these have answered.
        private int ordered;
        private ExecuteStream orderedStream;
        private ByteString orderedToken = ByteString.EMPTY;

        private Lane(Identity identity) {
            this.identity = identity;
        }

        private boolean maySend(PendingOperation next, ExecuteStream on, ByteString token) {
            if (identity != Identity.NOBODY && inFlight >= MAX_SESSION_IN_FLIGHT) {
                return false;
            }
            return next.independent || ordered == 0 || orderedStream == on && orderedToken.equals(token);
        }

        private void sent(PendingOperation operation, ExecuteStream on, ByteString token) {
            operation.stream = on;
            inFlight++;
            if (!operation.independent) {
                ordered++;
                orderedStream = on;
                orderedToken = token;
            }
        }

        private void settled(PendingOperation operation) {
            operation.stream = null;
            inFlight--;
            if (!operation.independent) {
                ordered--;
            }
        }
    }

    /** Hands an operation over. Those of one session are sent in the order of these calls. */
    void start(PendingOperation operation) {
        if (operation.octets > MAX_BATCH_OCTETS) {
            operation.fail(RestanteException.plain(
                    Status.RESOURCE_EXHAUSTED.withDescription("The request is larger than a batch may be (1 MiB).")));
            return;
        }
        ExecuteStream toOpen = null;
        ExecuteStream toFlush = null;
        boolean refused;
        synchronized (this) {
            refused = closed;
            if (!refused) {
                operation.id = ++lastId;
                operation.lane = lanes.computeIfAbsent(operation.identity, Lane::new);
                operation.lane.pending.add(operation);
                queue(operation.lane);
                toOpen = streamToOpen();
                toFlush = stream;
                watchDeadlines();
            }
        }
        if (refused) {
            operation.fail(RestanteException.closed());
        } else if (toOpen != null) {
            toOpen.open();
        } else if (toFlush != null) {
            toFlush.nudge(operation.waitedFor);
        }
    }

    /** Ends an operation for which nobody waits any more. What was sent keeps its place: the server counts it. */
    void abandon(PendingOperation operation, RestanteException why) {
        ExecuteStream told = null;
        synchronized (this) {
            Lane lane = operation.lane;
            if (operation.abandoned) { // by its context, and by the call that waited: one cancellation is enough
                return;
            }
            operation.abandoned = true;
            if (operation.stream != null && operation.stream.flying.containsKey(operation.id)) {
                told = operation.stream;
                told.cancels.add(operation.id);
            } else if (lane != null) {
                lane.pending.remove(operation);
                tidy(lane);
            }
        }
        if (told != null) {
            told.nudge(false);
        }
        operation.fail(why);
    }

    /** Fails whatever has not been answered. */
    void close() {
        List<PendingOperation> left = new ArrayList<>();
        List<ExecuteStream> open;
        synchronized (this) {
            closed = true;
            if (resting != null) {
                resting.cancel(false);
            }
            if (expiring != null) {
                expiring.cancel(false);
            }
            for (Lane lane : lanes.values()) {
                left.addAll(lane.pending);
                lane.pending.clear();
            }
            open = List.copyOf(streams);
            for (ExecuteStream each : open) {
                left.addAll(each.flying.values());
                each.flying.clear();
            }
            waiting.clear();
            stream = null;
        }
        for (ExecuteStream each : open) {
            each.cancel();
        }
        for (PendingOperation operation : left) {
            operation.fail(RestanteException.closed());
        }
    }

    private void watchDeadlines() {
        if (expiring == null) {
            expiring = timer.schedule(this::expire, EXPIRY_MILLISECONDS, TimeUnit.MILLISECONDS);
        }
    }

    /** Ends what is late. The server answers in time; this is for when it cannot. */
    private void expire() {
        List<PendingOperation> late = new ArrayList<>();
        synchronized (this) {
            long now = System.nanoTime();
            List<PendingOperation> all = new ArrayList<>();
            lanes.values().forEach(lane -> all.addAll(lane.pending));
            streams.forEach(each -> all.addAll(each.flying.values()));
            for (PendingOperation each : all) {
                if (now - each.deadline > EXPIRY_GRACE) {
                    late.add(each);
                }
            }
            expiring = null;
            if (!all.isEmpty() && !closed) {
                watchDeadlines();
            }
        }
        late.forEach(each -> executor.execute(() -> abandon(each, RestanteException.late())));
    }

    /** Lets a lane have its turn. The lock is held. */
    private void queue(Lane lane) {
        if (!lane.queued && !lane.pending.isEmpty()) {
            lane.queued = true;
            waiting.add(lane);
        }
    }

    /** Forgets a lane that has nothing. The lock is held. */
    private void tidy(Lane lane) {
        if (lane.pending.isEmpty() && lane.inFlight == 0 && !lane.queued) {
            lanes.remove(lane.identity, lane);
        }
    }

    /** The stream that must be opened so that what waits is sent; null: none. The lock is held. */
    private ExecuteStream streamToOpen() {
        if (stream != null || resting != null || closed || waiting.isEmpty()) {
            return null;
        }
        stream = new ExecuteStream(drained);
        drained = null;
        streams.add(stream);
        return stream;
    }

    /** Takes what one message may carry. The lock is held. */
    private void collect(ExecuteStream on, ExecuteRequest.Builder request) {
        Deque<Lane> turn = waiting;
        waiting = new ArrayDeque<>();
        long now = System.nanoTime();
        int count = 0;
        int octets = 0;
        while (!turn.isEmpty()) {
            if (count == MAX_BATCH_OPERATIONS || on.flying.size() >= MAX_IN_FLIGHT) {
                waiting.addAll(turn);
                return;
            }
            Lane lane = turn.remove();
            lane.queued = false;
            ByteString token = lane.identity.token();
            boolean full = false;
            while (!lane.pending.isEmpty() && lane.maySend(lane.pending.peek(), on, token)) {
                PendingOperation next = lane.pending.peek();
                full = count == MAX_BATCH_OPERATIONS
                        || on.flying.size() >= MAX_IN_FLIGHT
                        || count > 0 && octets + next.octets > MAX_BATCH_OCTETS;
                if (full) {
                    break;
                }
                lane.pending.remove();
                lane.sent(next, on, token);
                on.flying.put(next.id, next);
                octets += next.octets;
                request.addOperations(next.message(token, now));
                count++;
            }
            if (full) {
                queue(lane);
            }
            tidy(lane);
        }
    }

    /** Takes a response into account and hands out its answers. */
    private void answered(ExecuteStream on, ExecuteResponse response) {
        List<PendingOperation> operations = new ArrayList<>(response.getResultsCount());
        ExecuteStream toOpen;
        ExecuteStream toFlush = null;
        boolean nudged;
        synchronized (this) {
            on.worked = true;
            trouble = null;
            pause = FIRST_PAUSE;
            for (int i = 0; i < response.getResultsCount(); i++) {
                PendingOperation operation = on.flying.remove(response.getResults(i).getOperationId());
                operations.add(operation);
                if (operation != null) {
                    operation.lane.settled(operation);
                    queue(operation.lane);
                    tidy(operation.lane);
                }
            }
            if (response.getDraining()) {
                on.retired = true;
                if (stream == on) {
                    stream = null;
                    drained = on.connection;
                }
            }
            nudged = on.retired;
            toOpen = streamToOpen();
            if (!waiting.isEmpty()) {
                toFlush = stream;
            }
        }
        boolean later = false;
        for (int i = 0; i < operations.size(); i++) {
            PendingOperation operation = operations.get(i);
            if (operation != null && operation.waitedFor) {
                operation.answer(response.getResults(i));
            }
            later |= operation != null && !operation.waitedFor;
        }
        if (later) {
            executor.execute(() -> {
                for (int i = 0; i < operations.size(); i++) {
                    PendingOperation operation = operations.get(i);
                    if (operation != null && !operation.waitedFor) {
                        operation.answer(response.getResults(i));
                    }
                }
            });
        }
        if (toOpen != null) {
            toOpen.open();
        } else if (toFlush != null) {
            toFlush.flush();
        }
        if (nudged) {
            on.flush();
        }
    }

    /** Why no stream could be opened; null where one works, or none was tried. */
    synchronized RestanteException trouble() {
        return trouble;
    }

    /** Takes back what a stream that has ended did not answer: it is sent again by the next one, or fails. */
    private void lost(ExecuteStream ended, RestanteException cause) {
        List<PendingOperation> failed = new ArrayList<>();
        ExecuteStream toOpen = null;
        ExecuteStream toFlush = null;
        synchronized (this) {
            if (!streams.remove(ended)) {
                return;
            }
            ended.over = true;
            List<PendingOperation> left = new ArrayList<>(ended.flying.values());
            ended.flying.clear();
            left.sort(Comparator.comparingLong((PendingOperation operation) -> operation.id).reversed());
            long now = System.nanoTime();
            boolean another = !closed && isLoss(cause);
            for (PendingOperation operation : left) { // from the last on, each before what is there
                operation.lane.settled(operation);
                if (another && operation.repeatable && operation.isPatient(now, patience)) {
                    operation.lane.pending.addFirst(operation);
                } else {
                    failed.add(operation);
                }
                queue(operation.lane);
            }
            if (stream == ended) {
                stream = null;
                if (!ended.worked) {
                    trouble = cause;
                    impatient(now, isLoss(cause), failed);
                }
                rest();
            } else {
                toOpen = streamToOpen();
                toFlush = stream;
            }
            failed.forEach(operation -> tidy(operation.lane));
        }
        if (toOpen != null) {
            toOpen.open();
        } else if (toFlush != null) {
            toFlush.flush();
        }
        if (!failed.isEmpty()) {
            executor.execute(() -> failed.forEach(operation -> operation.fail(cause)));
        }
    }

    /** Takes out what has waited too long for a stream, or everything where another will not help. The lock is held. */
    private void impatient(long now, boolean another, List<PendingOperation> failed) {
        for (Lane lane : lanes.values()) {
            for (Iterator<PendingOperation> each = lane.pending.iterator(); each.hasNext(); ) {
                PendingOperation operation = each.next();
                if (!another || !operation.isPatient(now, patience)) {
                    each.remove();
                    failed.add(operation);
                }
            }
        }
    }

    /** Opens the next stream after a pause, which grows while none works. The lock is held. */
    private void rest() {
        if (resting != null || closed) {
            return;
        }
        resting = timer.schedule(() -> executor.execute(this::rested), Retry.jittered(pause), TimeUnit.NANOSECONDS);
        pause = Math.min(2 * pause, LONGEST_PAUSE);
    }

    private void rested() {
        ExecuteStream toOpen;
        synchronized (this) {
            resting = null;
            toOpen = streamToOpen();
        }
        if (toOpen != null) {
            toOpen.open();
        }
    }

    /** Whether a stream ended in a way that another may not. */
    static boolean isLoss(RestanteException cause) {
        return switch (cause.code()) {
            case UNAVAILABLE -> true;
            // what gRPC says of a connection that broke in the middle
            case CANCELLED, UNKNOWN, INTERNAL -> cause.reasonName().isEmpty();
            default -> false;
        };
    }

    /** One Execute call. Whoever comes while it is free sends. */
    final class ExecuteStream extends ClientCall.Listener<ExecuteResponse> {
        private static final MethodDescriptor<ExecuteRequest, ExecuteResponse> METHOD =
                BatchServiceGrpc.getExecuteMethod();

        private final Link.Connection fresh; // the connection of the stream before, where it drained
        private ClientCall<ExecuteRequest, ExecuteResponse> call; // set by open, before anything is sent

        // Under the multiplexer's lock:
        private final Map<Long, PendingOperation> flying = new HashMap<>();
        private final Deque<Long> cancels = new ArrayDeque<>();
        private Link.Connection connection;
        private boolean started;
        private boolean cancelled;
        private boolean sending;
        private boolean scheduled;
        private boolean halfClosed;
        private boolean retired; // takes nothing new
        private boolean worked;
        private boolean over;

        private ExecuteStream(Link.Connection fresh) {
            this.fresh = fresh;
        }

        /** Begins the call and sends what there is. */
        private void open() {
            Link.Connection used;
            try {
                if (fresh != null) {
                    link.retire(fresh);
                }
                used = link.acquire();
            } catch (RestanteException failure) {
                lost(this, failure);
                return;
            }
            ClientCall<ExecuteRequest, ExecuteResponse> opened =
                    used.newCall(METHOD, CallOptions.DEFAULT.withExecutor(Runnable::run));
            synchronized (Multiplexer.this) {
                connection = used;
                call = opened;
            }
            opened.start(this, new Metadata());
            opened.request(RESPONSES_AHEAD);
            synchronized (Multiplexer.this) {
                started = true;
            }
            flush();
        }

        private void cancel() {
            synchronized (Multiplexer.this) {
                cancelled = true;
            }
            flush(); // gRPC wants one thread at a time
        }

        /** Has what waits sent: at once where a thread is about to wait, otherwise together with what comes right now. */
        private void nudge(boolean atOnce) {
            if (atOnce) {
                flush();
                return;
            }
            synchronized (Multiplexer.this) {
                if (scheduled || sending) {
                    return;
                }
                scheduled = true;
            }
            executor.execute(() -> {
                Thread.yield(); // whoever is about to call goes along
                synchronized (Multiplexer.this) {
                    scheduled = false;
                }
                flush();
            });
        }

        /** Sends while there is something and the stream is free. One thread at a time does; others leave it to that. */
        private void flush() {
            synchronized (Multiplexer.this) {
                if (sending || !started || halfClosed) {
                    return;
                }
                sending = true;
            }
            while (true) {
                ExecuteRequest.Builder request = ExecuteRequest.newBuilder();
                boolean last;
                boolean gone;
                synchronized (Multiplexer.this) {
                    gone = cancelled;
                    if (!gone && (over || !call.isReady())) {
                        sending = false; // onReady comes here again
                        return;
                    }
                    for (int i = 0; i < MAX_CANCELS && !cancels.isEmpty(); i++) {
                        request.addCancelOperationIds(cancels.remove());
                    }
                    if (!retired && !gone) {
                        collect(this, request);
                    }
                    last = request.getOperationsCount() == 0 && request.getCancelOperationIdsCount() == 0;
                    if (last && !gone) {
                        sending = false;
                        halfClosed = retired && flying.isEmpty();
                        if (!halfClosed) {
                            return;
                        }
                    }
                }
                if (gone) {
                    call.cancel("The client was closed.", null);
                    return; // still sending: nobody may any more
                }
                if (last) {
                    call.halfClose();
                    return;
                }
                call.sendMessage(request.build());
            }
        }

        @Override
        public void onReady() {
            flush();
        }

        @Override
        public void onMessage(ExecuteResponse response) {
            call.request(1);
            answered(this, response);
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            lost(this, status.isOk()
                    ? RestanteException.unavailable("The server ended the stream.")
                    : RestanteException.of(status, trailers));
            link.release(connection);
        }
    }
}
