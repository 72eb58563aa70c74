package io.restante.client;

import java.time.Duration;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.concurrent.TimeUnit;

/**
 * What comes one after the other, for as long as it is taken: a sequence to loop over, once.
 *
 * <pre>{@code
 * try (EventStream<FolderEvent> events = client.watch(folderId, WatchOptions.fromNow())) {
 *     for (FolderEvent event : events) { ... }
 * }
 * }</pre>
 *
 * <p>It is for one thread, which waits; it needs no other. No more is fetched than a few ahead of what is taken. {@link
 * #close} may be called by any thread: it ends the loop, and the stream at the server. What fails throws a {@link
 * RestanteException}, once, and is the end; an interrupted thread gets the code CANCELLED and stays interrupted.
 *
 * @param <T> what comes
 */
public abstract class EventStream<T> implements Iterable<T>, Iterator<T>, AutoCloseable {
    /** Nanoseconds that nobody outlives. */
    static final long FOREVER = Long.MAX_VALUE / 2;

    private static final long SHORTEST_WAIT = TimeUnit.MILLISECONDS.toNanos(1);

    private final Object gate = new Object(); // notified when it is closed
    private T next;
    private boolean over;
    private volatile boolean closed;

    EventStream() {}

    /** What comes next; null: nothing did until then, or {@link #finish} was called. */
    abstract T take(long until) throws InterruptedException;

    /** Ends what is underneath, and wakes who waits for it. */
    abstract void end();

    /** Nothing comes any more. */
    final T finish() {
        over = true;
        return null;
    }

    final boolean isClosed() {
        return closed;
    }

    /** Waits for so long, or until it is closed. */
    final void pause(long nanoseconds) throws InterruptedException {
        long until = System.nanoTime() + nanoseconds;
        synchronized (gate) {
            for (long left = nanoseconds; left > 0 && !closed; left = until - System.nanoTime()) {
                TimeUnit.NANOSECONDS.timedWait(gate, Math.max(left, SHORTEST_WAIT));
            }
        }
    }

    /**
     * Waits for what comes next.
     *
     * @param timeout for so long
     * @return it; null when nothing came in time, or the stream has ended ({@link #isEnded})
     */
    public final T poll(Duration timeout) {
        return polled(timeout.toNanos());
    }

    private T polled(long nanoseconds) {
        if (next == null && !over) {
            try {
                next = closed ? finish() : take(System.nanoTime() + nanoseconds);
            } catch (InterruptedException interrupted) {
                throw ended(RestanteException.interrupted(interrupted));
            } catch (RestanteException failure) {
                if (!closed) {
                    throw ended(failure);
                }
                finish();
            }
        }
        T taken = next;
        next = null;
        return taken;
    }

    private RestanteException ended(RestanteException failure) {
        finish();
        end();
        return failure;
    }

    /**
     * Whether nothing comes any more: the stream ended by itself, failed or was closed.
     *
     * @return whether
     */
    public final boolean isEnded() {
        return over && next == null;
    }

    /** Waits for what comes next, and tells whether there is anything. */
    @Override
    public final boolean hasNext() {
        while (next == null && !over) {
            next = polled(FOREVER);
        }
        return next != null;
    }

    /** What comes next, waited for. */
    @Override
    public final T next() {
        if (!hasNext()) {
            throw new NoSuchElementException();
        }
        T taken = next;
        next = null;
        return taken;
    }

    /** This stream itself, from where it stands: a second loop goes on where the first was left. */
    @Override
    public final Iterator<T> iterator() {
        return this;
    }

    /** Ends the stream, at the server too; harmless to repeat. */
    @Override
    public final void close() {
        synchronized (gate) {
            closed = true;
            gate.notifyAll();
        }
        end();
    }
}
