package io.restante.client;

import io.restante.v1.CommitToken;
import io.restante.v1.IdRange;
import io.restante.v1.MatchingMessages;
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
    private final MessageSet.Builder whole; // of the caller's request
    private final StreamMessagesRequest.Builder wanted;
    private final ResumedCall<StreamMessagesRequest, StreamMessagesResponse> call;
    private final Deque<MessageRows> ready = new ArrayDeque<>();
    private MessageRows.Builder cut; // the batch whose last message is not whole; null: none

    MessageBatches(Core core, StreamMessagesRequest request) {
        whole = request.getMessages().toBuilder();
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
        return isEmpty(wanted.getMessages()) ? null : wanted.build();
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
            if (response.getMatchingBelow() != 0) {
                whole.getMatchingBuilder().setBelow(response.getMatchingBelow());
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
            MessageRows batch = cut.build();
            cut = null;
            told(batch);
        }
    }

    private void told(MessageRows batch) {
        wanted.setMessages(behind(whole.build(), batch));
        ready.add(batch);
    }

    private static boolean isEmpty(MessageSet set) {
        return !set.hasMatching()
                && set.getUids().getRangesCount() == 0
                && set.getIds().getMessageIdsCount() == 0;
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

    /** The part of a set that follows a batch: batches come in ascending order of UIDs or message ids. */
    static MessageSet behind(MessageSet set, MessageRows told) {
        if (told.getMessageIdsCount() == 0) {
            return set;
        }
        MessageSet.Builder left = set.toBuilder();
        long lastId = told.getMessageIds(told.getMessageIdsCount() - 1);
        long lastUid = told.getUidsCount() == 0 ? 0 : told.getUids(told.getUidsCount() - 1);
        switch (set.getMessagesCase()) {
            case UIDS -> left.getUidsBuilder().clearRanges().addAllRanges(above(set.getUids().getRangesList(), lastUid));
            case MATCHING -> left.setMatching(matchingBehind(set.getMatching(), lastId, lastUid));
            default -> {
                left.getIdsBuilder().clearMessageIds();
                set.getIds().getMessageIdsList().stream()
                        .filter(id -> id > lastId)
                        .forEach(left.getIdsBuilder()::addMessageIds);
            }
        }
        return left.build();
    }

    /** The matching messages whose UIDs, or in all folders message ids, are above the last one told. */
    private static MatchingMessages matchingBehind(MatchingMessages matching, long lastId, long lastUid) {
        return matching.toBuilder()
                .setAbove(matching.getFolderId() == 0 ? lastId : lastUid)
                .build();
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
