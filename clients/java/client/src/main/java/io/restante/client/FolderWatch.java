package io.restante.client;

import io.restante.v1.CommitToken;
import io.restante.v1.FolderServiceGrpc;
import io.restante.v1.GetFolderRequest;
import io.restante.v1.OpenFolderRequest;
import io.restante.v1.OpenFolderResponse;
import io.restante.v1.WatchResponse;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;

/** The changes of a folder, after a snapshot where one is wanted or needed. */
final class FolderWatch extends Watch<FolderEvent> {
    private final long folderId;
    private boolean snapshot;
    private boolean begun;
    private volatile ResumedCall<?, ?> reading;

    FolderWatch(Core core, long folderId, WatchOptions options) {
        super(core, options.mailboxId(), folderId, options.since(), options.epoch());
        this.folderId = folderId;
        snapshot = options.snapshot();
    }

    @Override
    void prepare(Deque<FolderEvent> ready) throws InterruptedException {
        if (begun) {
            snapshot = true; // it is read anew
        }
        begun = true;
        if (snapshot || epoch == 0) {
            epoch = mailboxNow().getEpoch();
        }
        if (snapshot) {
            boolean fresh = true;
            for (OpenFolderResponse piece : pieces()) {
                if (piece.hasFolder()) {
                    since = piece.getFolder().getChangeNumber();
                }
                ready.add(new FolderEvent(piece.getRows(), fresh));
                fresh = false;
            }
        } else if (since == 0) {
            GetFolderRequest request =
                    GetFolderRequest.newBuilder().setMailboxId(mailboxId).setFolderId(folderId).build();
            since = core.call(FolderServiceGrpc.getGetFolderMethod(), request, core.config.timeout())
                    .getFolder()
                    .getChangeNumber();
        }
    }

    /** What the folder holds. A break begins it anew, so that it is only told once it is whole. */
    private List<OpenFolderResponse> pieces() throws InterruptedException {
        List<OpenFolderResponse> pieces = new ArrayList<>();
        OpenFolderRequest.Builder request =
                OpenFolderRequest.newBuilder().setMailboxId(mailboxId).setFolderId(folderId);
        CommitToken seen = core.minCommit(mailboxId);
        if (seen != null) {
            request.setMinCommit(seen);
        }
        ResumedCall<OpenFolderRequest, OpenFolderResponse> call =
                new ResumedCall<>(core, FolderServiceGrpc.getOpenFolderMethod(), () -> {
                    pieces.clear();
                    return request.build();
                });
        reading = call;
        while (!call.isEnded() && !isClosed()) {
            OpenFolderResponse piece = call.take(System.nanoTime() + FOREVER);
            if (piece != null) {
                pieces.add(piece);
            }
        }
        call.close();
        return pieces;
    }

    @Override
    FolderEvent event(WatchResponse notice) {
        if (!notice.hasFolder()) {
            return null;
        }
        since = Math.max(since, notice.getFolder().getChangeNumber());
        return new FolderEvent(notice.getFolder(), false);
    }

    @Override
    void end() {
        super.end();
        ResumedCall<?, ?> open = reading;
        if (open != null) {
            open.close();
        }
    }
}
