package io.restante.client;

import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;

/** Decides about the attempts of one call or stream. For one thread at a time. */
final class Retry {
    static final Duration FIRST_CALL_PAUSE = Duration.ofMillis(100);
    static final Duration LONGEST_CALL_PAUSE = Duration.ofSeconds(5);
    static final Duration FIRST_STREAM_PAUSE = Duration.ofMillis(50);
    static final Duration LONGEST_WATCH_PAUSE = Duration.ofSeconds(2);

    private final long first;
    private final long longest;
    private long pause;
    private boolean renewed;

    Retry(Duration first, Duration longest) {
        this.first = first.toNanos();
        this.longest = longest.toNanos();
        pause = this.first;
    }

    static Retry ofCall() {
        return new Retry(FIRST_CALL_PAUSE, LONGEST_CALL_PAUSE);
    }

    /** An attempt has brought something: begin anew. */
    void worked() {
        pause = first;
        renewed = false;
    }

    /** Whether a session may be renewed, which it may once. */
    boolean renewal() {
        boolean may = !renewed;
        renewed = true;
        return may;
    }

    /** How many nanoseconds to wait now, at least as long as the server asks for. */
    long delay(RestanteException failure) {
        long asked = failure == null ? 0 : failure.retryDelay().map(Duration::toNanos).orElse(0L);
        long chosen = Math.max(jittered(pause), asked);
        pause = Math.min(2 * pause, longest);
        return chosen;
    }

    /** Between the half and the whole of a pause. */
    static long jittered(long nanoseconds) {
        return nanoseconds / 2 + ThreadLocalRandom.current().nextLong(nanoseconds / 2 + 1);
    }
}
