package io.restante.client;

import io.restante.v1.CommitToken;
import io.restante.v1.IdRange;
import io.restante.v1.MessageRows;
import io.restante.v1.MessageServiceGrpc;
import io.restante.v1.MessageSet;
import io.restante.v1.SectionCells;
import io.restante.v1.SectionRest;
import io.restante.v1.StreamMessagesRequest;
import io.restante.v1.StreamMessagesResponse;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;

/** StreamMessages with whole cells, opened again with the messages that have not been told. */
final class MessageBatches extends EventStream<MessageRows> {
    private final StreamMessagesRequest.Builder wanted;
    private final ResumedCall<StreamMessagesRequest, StreamMessagesResponse> call;
    private final Deque<MessageRows> ready = new ArrayDeque<>();
    private MessageRows.Builder cut; // the batch whose last message is not whole; null: none

    MessageBatches(Core core, StreamMessagesRequest request) {
        wanted = request.toBuilder();
        CommitToken seen = core.minCommit(request.getMailboxId());
        if (!wanted.hasMinCommit() && seen != null) {
            wanted.setMinCommit(seen);
        }
        call = new ResumedCall<>(core, MessageServiceGrpc.getStreamMessagesMethod(), this::left);
    }

    /** What to ask for; null: everything has been told. */
    private StreamMessagesRequest left() {
        cut = null;
        boolean finished = wanted.getMessages().getUidsCount() == 0 && wanted.getMessages().getMessageIdsCount() == 0;
        return finished ? null : wanted.build();
    }

    @Override
    MessageRows take(long until) throws InterruptedException {
        while (ready.isEmpty()) {
            StreamMessagesResponse response = call.take(until);
            if (response == null) {
                if (!call.isEnded()) {
                    return null;
                }
                give();
                if (ready.isEmpty()) {
                    return finish();
                }
                break;
            }
            if (response.hasRest() && cut != null) {
                join(cut, response.getRest());
            }
            if (response.hasRows()) {
                give();
                if (isWhole(response.getRows())) {
                    told(response.getRows());
                } else {
                    cut = response.getRows().toBuilder();
                }
            }
        }
        return ready.remove();
    }

    private void give() {
        if (cut != null) {
            MessageRows whole = cut.build();
            cut = null;
            told(whole);
        }
    }

    private void told(MessageRows batch) {
        wanted.setMessages(passOver(wanted.getMessages(), batch));
        ready.add(batch);
    }

    /** Adds octets to a cut cell of the last message of a batch. */
    static void join(MessageRows.Builder batch, SectionRest rest) {
        int index = rest.getSectionIndex();
        if (index >= batch.getSectionsCount() || batch.getSections(index).getOctetsCount() == 0) {
            return; // of no batch that is here
        }
        SectionCells.Builder cells = batch.getSectionsBuilder(index);
        int last = cells.getOctetsCount() - 1;
        cells.setOctets(last, cells.getOctets(last).concat(rest.getOctets()));
    }

    /** Whether no cell of the last message is cut. */
    static boolean isWhole(MessageRows batch) {
        for (SectionCells cells : batch.getSectionsList()) {
            int last = cells.getOctetsCount() - 1;
            if (last >= 0 && cells.getOctets(last).size() < cells.getTotalOctets(last)) {
                return false;
            }
        }
        return true;
    }

    /** What of a set has not been told: messages come in ascending order. */
    static MessageSet passOver(MessageSet set, MessageRows told) {
        MessageSet.Builder left = set.toBuilder();
        if (set.getFolderId() != 0) {
            if (told.getUidsCount() > 0) {
                long last = told.getUids(told.getUidsCount() - 1);
                left.clearUids().addAllUids(above(set.getUidsList(), last));
            }
        } else if (told.getMessageIdsCount() > 0) {
            long last = told.getMessageIds(told.getMessageIdsCount() - 1);
            left.clearMessageIds();
            set.getMessageIdsList().stream().filter(id -> id > last).forEach(left::addMessageIds);
        }
        return left.build();
    }

    private static List<IdRange> above(List<IdRange> ranges, long id) {
        return ranges.stream()
                .filter(range -> range.getLast() > id)
                .map(range -> range.getFirst() > id ? range : range.toBuilder().setFirst(id + 1).build())
                .toList();
    }

    @Override
    void end() {
        call.close();
    }
}
