package io.restante.client;

import com.google.protobuf.ByteString;
import io.grpc.Status;
import io.restante.v1.AuthenticateRequest;
import io.restante.v1.ChangePasswordRequest;
import io.restante.v1.ErrorReason;
import io.restante.v1.GetSessionRequest;
import io.restante.v1.LogoffRequest;
import io.restante.v1.RenewSessionRequest;
import io.restante.v1.Scope;
import io.restante.v1.Session;
import io.restante.v1.SessionServiceGrpc;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;

/** What a client knows of who it is. Its token is always the present one. */
final class SessionKeeper implements Identity {
    private static final Duration SHORTEST_RENEWAL = Duration.ofMillis(200);
    private static final Duration RENEWAL_RETRY = Duration.ofSeconds(2);

    private final Core core;
    private final ReentrantLock changing = new ReentrantLock(); // held while the session is being replaced
    private final CompletableFuture<RestanteException> ended = new CompletableFuture<>();
    private volatile Session info = Session.getDefaultInstance();
    private volatile long lapses; // by System.nanoTime: the server's clock may be another
    private volatile String password = ""; // empty: not kept
    private ScheduledFuture<?> next;

    SessionKeeper(Core core) {
        this.core = core;
    }

    @Override
    public ByteString token() {
        return info.getSessionToken();
    }

    Session present() {
        return info;
    }

    /** Completed with the reason when the session is over. */
    CompletableFuture<RestanteException> ended() {
        return ended;
    }

    /** The reason why it is over; null while it is not known to be. */
    RestanteException endReason() {
        return ended.getNow(null);
    }

    // --- Beginning ---

    void logOn(String user, String secret) {
        authenticate(user, secret, Core.deadline(core.config.timeout()));
        if (!core.config.forgetPassword()) {
            password = secret;
        }
        keepFresh(untilRenewal());
    }

    void resume(ByteString token) {
        info = Session.newBuilder().setSessionToken(token).build();
        Session found = core.once(
                        SessionServiceGrpc.getGetSessionMethod(),
                        GetSessionRequest.getDefaultInstance(),
                        Core.deadline(core.config.timeout()))
                .getSession();
        take(found.toBuilder().setSessionToken(token()).build());
        keepFresh(untilRenewal());
    }

    private void authenticate(String user, String secret, long deadline) {
        AuthenticateRequest request = AuthenticateRequest.newBuilder()
                .setMechanism("PLAIN")
                .setResponse(ByteString.copyFrom("\0" + user + "\0" + secret, StandardCharsets.UTF_8)) // RFC 4616 2
                .setScope(Scope.SCOPE_API)
                .build();
        take(new LogicalCall<>(core, SessionServiceGrpc.getAuthenticateMethod(), request, Identity.NOBODY, deadline)
                .once()
                .waitedFor()
                .begin()
                .await()
                .getSession());
    }

    private void take(Session given) {
        lapses = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(given.getLifetimeMilliseconds());
        info = given;
        core.config.onSession().accept(given);
    }

    // --- Changing ---

    /** Replaces a token, unless somebody else has just done it. */
    void renew(ByteString before, long deadline) {
        lock(deadline);
        try {
            if (!token().equals(before)) {
                return;
            }
            try {
                take(core.once(
                                SessionServiceGrpc.getRenewSessionMethod(),
                                RenewSessionRequest.getDefaultInstance(),
                                deadline)
                        .getSession());
            } catch (RestanteException refused) {
                boolean expired = refused.reason() == ErrorReason.ERROR_REASON_SESSION_EXPIRED
                        || refused.reason() == ErrorReason.ERROR_REASON_INVALID_SESSION;
                if (!expired || password.isEmpty()) {
                    throw refused;
                }
                authenticate(info.getAddress(), password, deadline);
            }
        } finally {
            changing.unlock();
        }
    }

    void changePassword(String old, String chosen) {
        long deadline = Core.deadline(core.config.timeout());
        lock(deadline);
        try {
            ChangePasswordRequest request =
                    ChangePasswordRequest.newBuilder().setOldPassword(old).setNewPassword(chosen).build();
            Session given = core.once(SessionServiceGrpc.getChangePasswordMethod(), request, deadline).getSession();
            if (!password.isEmpty()) {
                password = chosen;
            }
            take(given);
        } finally {
            changing.unlock();
        }
    }

    void logOff() {
        core.once(
                SessionServiceGrpc.getLogoffMethod(),
                LogoffRequest.getDefaultInstance(),
                Core.deadline(core.config.timeout()));
        end(RestanteException.loggedOff());
    }

    private void lock(long deadline) {
        try {
            if (!changing.tryLock(deadline - System.nanoTime(), TimeUnit.NANOSECONDS)) {
                throw RestanteException.late();
            }
        } catch (InterruptedException interrupted) {
            throw RestanteException.interrupted(interrupted);
        }
    }

    void end(RestanteException reason) {
        if (ended.complete(reason)) {
            core.watching.wakeAll();
        }
    }

    // --- Keeping it fresh ---

    private synchronized void keepFresh(Duration wait) {
        if (core.isClosed() || ended.isDone()) {
            return;
        }
        try {
            next = core.timer.schedule(
                    () -> core.executor.execute(() -> keepFresh(check() ? untilRenewal() : RENEWAL_RETRY)),
                    wait.toNanos(),
                    TimeUnit.NANOSECONDS);
        } catch (RejectedExecutionException closed) {
            return; // between the two looks at it
        }
    }

    synchronized void close() {
        if (next != null) {
            next.cancel(false);
        }
    }

    private Duration untilRenewal() {
        return untilRenewal(Duration.ofNanos(lapses - System.nanoTime()));
    }

    /** How long a token that is good for so long may be left alone: the other half is for a server that is away. */
    static Duration untilRenewal(Duration left) {
        Duration half = left.dividedBy(2);
        return half.compareTo(SHORTEST_RENEWAL) < 0 ? SHORTEST_RENEWAL : half;
    }

    /** Renews the session, and ends it where that is refused. Whether there is nothing more to do for now. */
    boolean check() {
        try {
            renew(token(), Core.deadline(core.config.timeout()));
            return true;
        } catch (RestanteException refused) {
            if (!refused.isOver()) {
                return refused.code() == Status.Code.CANCELLED && core.isClosed();
            }
            end(refused);
            return true;
        }
    }
}
