package io.restante.client;

import com.google.protobuf.ByteString;
import io.restante.v1.ErrorReason;
import io.restante.v1.GetMailboxRequest;
import io.restante.v1.Mailbox;
import io.restante.v1.MailboxServiceGrpc;
import io.restante.v1.WatchResponse;
import java.util.ArrayDeque;
import java.util.Deque;

/** What the watches of folders and mailboxes have in common: a subscription that is refused, reset or read anew. */
abstract class Watch<T> extends EventStream<T> {
    final Core core;
    final long mailboxId;
    long since;
    long epoch;

    private final long folderId;
    private final Deque<T> ready = new ArrayDeque<>();
    private final Retry retry = new Retry(Retry.FIRST_CALL_PAUSE, Retry.LONGEST_WATCH_PAUSE);
    private volatile WatchStream.Watched watched; // null: what is watched must be read first
    private ByteString token = ByteString.EMPTY;

    Watch(Core core, long mailboxId, long folderId, long since, long epoch) {
        this.core = core;
        this.mailboxId = mailboxId;
        this.folderId = folderId;
        this.since = since;
        this.epoch = epoch;
    }

    /** Reads what must be known before one can subscribe, and sets `since` and `epoch`. */
    abstract void prepare(Deque<T> ready) throws InterruptedException;

    /** The event of a notice; null: none. Sets `since`. */
    abstract T event(WatchResponse notice);

    @Override
    final T take(long until) throws InterruptedException {
        while (true) {
            if (!ready.isEmpty()) {
                return ready.remove();
            }
            if (isClosed()) {
                end(); // of what was begun meanwhile
                return finish();
            }
            if (core.isClosed()) {
                throw RestanteException.closed();
            }
            if (watched == null) {
                prepare(ready);
                subscribe();
                continue;
            }
            RestanteException over = core.session.endReason();
            if (over != null) {
                throw over.here();
            }
            WatchResponse notice = watched.take(until);
            if (notice != null) {
                T told = told(notice);
                if (told != null) {
                    return told;
                }
            } else if (watched.isLate()) {
                readAnew();
            } else if (until - System.nanoTime() <= 0) {
                return null;
            }
        }
    }

    private void subscribe() {
        token = core.session.token();
        watched = core.watching.subscribe(mailboxId, folderId, since, epoch);
    }

    private void readAnew() {
        watched.unsubscribe();
        watched = null;
    }

    private T told(WatchResponse notice) throws InterruptedException {
        switch (notice.getNoticeCase()) {
            case RESET_REASON -> readAnew();
            case REJECTED -> rejected(RestanteException.of(notice.getRejected()));
            default -> {
                retry.worked();
                return event(notice);
            }
        }
        return null;
    }

    /** Subscribes again after a refusal where that may help. A session that is over may have been replaced here. */
    private void rejected(RestanteException refusal) throws InterruptedException {
        if (refusal.reason() == ErrorReason.ERROR_REASON_EPOCH_CHANGED) {
            readAnew();
            return;
        }
        if (refusal.isOver() && retry.renewal()) {
            try {
                core.session.renew(token, Core.deadline(core.config.timeout()));
            } catch (RestanteException failure) {
                if (failure.isOver()) {
                    core.session.end(failure);
                }
                throw failure;
            }
        } else if (refusal.isTemporary()) {
            pause(retry.delay(refusal));
        } else {
            throw refusal;
        }
        subscribe();
    }

    final Mailbox mailboxNow() {
        GetMailboxRequest request = GetMailboxRequest.newBuilder().setMailboxId(mailboxId).build();
        return core.call(MailboxServiceGrpc.getGetMailboxMethod(), request, core.config.timeout()).getMailbox();
    }

    @Override
    void end() {
        WatchStream.Watched subscribed = watched;
        if (subscribed != null) {
            subscribed.unsubscribe();
            subscribed.wake();
        }
    }
}
