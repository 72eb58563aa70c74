package io.restante.client;

import com.google.protobuf.ByteString;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.Status;
import io.restante.v1.Subscription;
import io.restante.v1.SyncServiceGrpc;
import io.restante.v1.WatchRequest;
import io.restante.v1.WatchResponse;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/**
 * The one Watch stream of a client, on which it subscribes to any number of folders and mailboxes. It is opened with the
 * first subscription, opened again whenever it breaks, and each subscription resumes from what it has been told.
 */
final class WatchStream {
    static final int MAX_NOTICES = 10_000; // that a reader has not taken: beyond, it reads anew
    private static final int RESPONSES_AHEAD = 8;
    private static final long SHORTEST_WAIT = TimeUnit.MILLISECONDS.toNanos(1);

    private final Core core;
    private final Map<Long, Watched> watching = new HashMap<>();
    private final Retry retry = new Retry(Retry.FIRST_STREAM_PAUSE, Retry.LONGEST_WATCH_PAUSE);
    private Running current; // null: none is open
    private boolean resting; // until the next is opened
    private long lastId;

    WatchStream(Core core) {
        this.core = core;
    }

    /** One thing that is watched. Its notices wait until they are taken. */
    final class Watched {
        private final long id;
        private final long mailboxId;
        private final long folderId;
        private final long epoch;
        private final Deque<WatchResponse> notices = new ArrayDeque<>();
        private long since; // what has been told so far
        private boolean late;
        private boolean woken;

        private Watched(long id, long mailboxId, long folderId, long since, long epoch) {
            this.id = id;
            this.mailboxId = mailboxId;
            this.folderId = folderId;
            this.since = since;
            this.epoch = epoch;
        }

        /** The next notice; null: none came until then, some could not be kept, or somebody woke this. */
        synchronized WatchResponse take(long until) throws InterruptedException {
            while (notices.isEmpty() && !late && !woken) {
                long left = until - System.nanoTime();
                if (left <= 0) {
                    return null;
                }
                TimeUnit.NANOSECONDS.timedWait(this, Math.max(left, SHORTEST_WAIT));
            }
            woken = false;
            return notices.poll();
        }

        /** Whether notices could not be kept: the reader lags too far. */
        synchronized boolean isLate() {
            return late && notices.isEmpty();
        }

        /** Has the reader look at what it waits for, such as the session's end. */
        synchronized void wake() {
            woken = true;
            notifyAll();
        }

        /** No more notices; harmless to repeat. */
        void unsubscribe() {
            Running told;
            synchronized (WatchStream.this) {
                told = watching.remove(id) == null ? null : current;
            }
            if (told != null) {
                told.ask(WatchRequest.newBuilder().setUnsubscribe(id).build());
            }
        }

        private synchronized WatchRequest request() {
            return WatchRequest.newBuilder()
                    .setSubscribe(Subscription.newBuilder()
                            .setSubscriptionId(id)
                            .setSessionToken(core.session.token())
                            .setMailboxId(mailboxId)
                            .setFolderId(folderId)
                            .setSinceChangeNumber(since)
                            .setEpoch(epoch))
                    .build();
        }

        private synchronized void put(WatchResponse notice) {
            if (notice.hasFolder()) {
                since = Math.max(since, notice.getFolder().getChangeNumber());
            } else if (notice.hasMailbox()) {
                since = Math.max(since, notice.getMailbox().getChangeNumber());
            }
            if (notices.size() < MAX_NOTICES) {
                notices.add(notice);
            } else {
                late = true;
            }
            notifyAll();
        }
    }

    /** Watches a folder, or with folder 0 a mailbox, from a change number on. */
    Watched subscribe(long mailboxId, long folderId, long since, long epoch) {
        Watched made;
        Running told;
        synchronized (this) {
            made = new Watched(++lastId, mailboxId, folderId, since, epoch);
            watching.put(made.id, made);
            told = current;
        }
        if (told != null) {
            told.ask(made.request());
        } else {
            open();
        }
        return made;
    }

    /** Has all readers look at what they wait for. */
    void wakeAll() {
        List<Watched> readers;
        synchronized (this) {
            readers = List.copyOf(watching.values());
        }
        readers.forEach(Watched::wake);
    }

    /** Opens a stream where none is open and something is watched. */
    private void open() {
        Running opened;
        List<WatchRequest> requests = new ArrayList<>();
        synchronized (this) {
            if (current != null || resting || watching.isEmpty() || core.isClosed()) {
                return;
            }
            opened = new Running(core.session.token());
            current = opened;
            watching.values().forEach(each -> requests.add(each.request()));
        }
        opened.begin(requests);
    }

    /** Opens the next stream after a pause; null: soon. */
    private void ended(Running stream, RestanteException failure) {
        long pause;
        synchronized (this) {
            if (current != stream) {
                return;
            }
            current = null;
            if (watching.isEmpty() || core.isClosed()) {
                return;
            }
            resting = true;
            pause = failure == null ? Retry.jittered(Retry.FIRST_STREAM_PAUSE.toNanos()) : retry.delay(failure);
        }
        boolean over = failure != null && failure.isOver() && core.session.token().equals(stream.token);
        core.after(pause, () -> {
            if (over) {
                core.session.check(); // a fresh token, or the end of the session, which its watchers learn from
            }
            synchronized (this) {
                resting = false;
            }
            open();
        });
    }

    private void received(Running stream, WatchResponse response) {
        Watched watched;
        synchronized (this) {
            if (current != stream) {
                return;
            }
            retry.worked();
            watched = watching.get(response.getSubscriptionId());
            if (response.hasResetReason() || response.hasRejected()) {
                watching.remove(response.getSubscriptionId());
            }
        }
        if (watched != null) {
            watched.put(response);
        }
    }

    /** One Watch call. */
    private final class Running extends ClientCall.Listener<WatchResponse> {
        private final ByteString token;
        private volatile Link.Connection used;
        private volatile ClientCall<WatchRequest, WatchResponse> call;

        // Under this object's lock:
        private final Deque<WatchRequest> asked = new ArrayDeque<>();
        private boolean begun;
        private boolean sending;
        private boolean done;

        private Running(ByteString token) {
            this.token = token;
        }

        private void begin(List<WatchRequest> requests) {
            try {
                used = core.link.acquire();
            } catch (RestanteException failure) {
                ended(this, failure);
                return;
            }
            call = used.newCall(SyncServiceGrpc.getWatchMethod(), CallOptions.DEFAULT.withExecutor(Runnable::run));
            call.start(this, RestanteConfig.authorization(token));
            call.request(RESPONSES_AHEAD);
            synchronized (this) {
                begun = true;
                requests.forEach(asked::addFirst); // before what came meanwhile
            }
            send();
        }

        private void ask(WatchRequest request) {
            synchronized (this) {
                asked.add(request);
            }
            send();
        }

        /** Sends what is asked, and ends what is done. One thread at a time does, as gRPC wants it. */
        private void send() {
            while (true) {
                WatchRequest request;
                synchronized (this) {
                    if (sending || !begun || !done && asked.isEmpty()) {
                        return;
                    }
                    sending = true;
                    request = asked.poll();
                    if (done) {
                        break;
                    }
                }
                call.sendMessage(request);
                synchronized (this) {
                    sending = false;
                }
            }
            call.cancel("The connection drains.", null);
        }

        @Override
        public void onMessage(WatchResponse response) {
            call.request(1);
            if (response.getDraining()) {
                core.link.retire(used);
                ended(this, null);
                synchronized (this) {
                    done = true;
                }
                send();
            } else {
                received(this, response);
            }
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            core.link.release(used);
            ended(this, status.isOk() ? null : RestanteException.of(status, trailers));
        }
    }
}
