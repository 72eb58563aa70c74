package io.restante.client;

import io.restante.v1.SyncMailboxRequest;
import io.restante.v1.SyncMailboxResponse;
import io.restante.v1.SyncServiceGrpc;

/** SyncMailbox, opened again from the last checkpoint that was told. */
final class MailboxSync extends EventStream<SyncMailboxResponse> {
    private final Core core;
    private final SyncMailboxRequest.Builder wanted;
    private final Retry retry = new Retry(Retry.FIRST_STREAM_PAUSE, Retry.LONGEST_CALL_PAUSE);
    private volatile ResumedCall<SyncMailboxRequest, SyncMailboxResponse> call;
    private boolean again;
    private long began;

    MailboxSync(Core core, SyncMailboxRequest request) {
        this.core = core;
        wanted = request.toBuilder();
        open();
    }

    private void open() {
        again = wanted.getFollow();
        began = System.nanoTime();
        call = new ResumedCall<>(core, SyncServiceGrpc.getSyncMailboxMethod(), wanted::build);
    }

    @Override
    SyncMailboxResponse take(long until) throws InterruptedException {
        while (true) {
            SyncMailboxResponse change = call.take(until);
            if (change != null) {
                if (change.hasCheckpoint()) {
                    wanted.setCursor(change.getCheckpoint().getCursor());
                } else if (change.hasResetReason()) {
                    wanted.clearCursor();
                    again = true;
                }
                return change;
            }
            if (!call.isEnded()) {
                return null;
            }
            if (!again || isClosed()) {
                return finish();
            }
            if (System.nanoTime() - began > Retry.LONGEST_CALL_PAUSE.toNanos()) {
                retry.worked();
            }
            pause(retry.delay(null)); // the server drains: it ends streams after a checkpoint
            open();
            if (isClosed()) {
                return finish();
            }
        }
    }

    @Override
    void end() {
        call.close();
    }
}
