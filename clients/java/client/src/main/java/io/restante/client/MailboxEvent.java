package io.restante.client;

import java.util.List;

/**
 * A mailbox has a new change number.
 *
 * @param changeNumber the mailbox's
 * @param folderIds folders known to be touched; there may be more
 * @param fresh changes may have been missed: compare everything
 */
public record MailboxEvent(long changeNumber, List<Long> folderIds, boolean fresh) {}
