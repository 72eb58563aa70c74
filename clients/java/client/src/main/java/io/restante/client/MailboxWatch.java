package io.restante.client;

import io.restante.v1.Mailbox;
import io.restante.v1.WatchResponse;
import java.util.Deque;
import java.util.List;

/** The change numbers of a mailbox from now on. */
final class MailboxWatch extends Watch<MailboxEvent> {
    private boolean begun;

    MailboxWatch(Core core, long mailboxId) {
        super(core, mailboxId, 0, 0, 0);
    }

    @Override
    void prepare(Deque<MailboxEvent> ready) {
        Mailbox now = mailboxNow();
        epoch = now.getEpoch();
        since = now.getChangeNumber();
        if (begun) {
            ready.add(new MailboxEvent(since, List.of(), true));
        }
        begun = true;
    }

    @Override
    MailboxEvent event(WatchResponse notice) {
        if (!notice.hasMailbox()) {
            return null;
        }
        since = Math.max(since, notice.getMailbox().getChangeNumber());
        return new MailboxEvent(
                notice.getMailbox().getChangeNumber(), List.copyOf(notice.getMailbox().getFolderIdsList()), false);
    }
}
