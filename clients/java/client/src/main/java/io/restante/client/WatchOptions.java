package io.restante.client;

/**
 * Where a watch of a folder begins.
 *
 * @param mailboxId the mailbox; 0: the user's own
 * @param snapshot tell first what the folder holds; the first event is then fresh
 * @param since tell first what happened above this change number; 0: from now on. A snapshot goes before it
 * @param epoch the mailbox's epoch under which that number was learned; 0: the present one
 */
public record WatchOptions(long mailboxId, boolean snapshot, long since, long epoch) {
    /**
     * Tells what happens from now on.
     *
     * @return the options
     */
    public static WatchOptions fromNow() {
        return new WatchOptions(0, false, 0, 0);
    }

    /**
     * Tells first what the folder holds.
     *
     * @return the options
     */
    public static WatchOptions withSnapshot() {
        return new WatchOptions(0, true, 0, 0);
    }

    /**
     * Tells first what happened above a change number, such as that of a folder in an earlier answer: so nothing is
     * missed between that answer and the watch.
     *
     * @param changeNumber the number
     * @return the options
     */
    public static WatchOptions since(long changeNumber) {
        return new WatchOptions(0, false, changeNumber, 0);
    }

    /**
     * The same for another mailbox.
     *
     * @param id the mailbox
     * @return the options
     */
    public WatchOptions inMailbox(long id) {
        return new WatchOptions(id, snapshot, since, epoch);
    }

    /**
     * The same with the epoch under which the change number was learned.
     *
     * @param known the mailbox's epoch
     * @return the options
     */
    public WatchOptions underEpoch(long known) {
        return new WatchOptions(mailboxId, snapshot, since, known);
    }
}
