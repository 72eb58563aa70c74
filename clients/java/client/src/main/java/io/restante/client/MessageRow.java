package io.restante.client;

import com.google.protobuf.ByteString;
import io.restante.v1.Flag;
import io.restante.v1.MessagePart;
import io.restante.v1.MessageRows;
import io.restante.v1.MessageSummary;
import io.restante.v1.SectionCells;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.AbstractList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/** One message of a batch of columns. What was not asked for is zero or empty. It is a view: nothing is copied. */
public final class MessageRow {
    private static final int SECONDS_A_MINUTE = 60;

    private final MessageRows rows;
    private final int index;

    private MessageRow(MessageRows rows, int index) {
        this.rows = rows;
        this.index = index;
    }

    /**
     * The messages of a batch, one by one.
     *
     * @param rows the batch
     * @return its messages, in its order
     */
    public static List<MessageRow> of(MessageRows rows) {
        return new AbstractList<>() {
            @Override
            public MessageRow get(int index) {
                return new MessageRow(rows, Objects.checkIndex(index, size()));
            }

            @Override
            public int size() {
                return rows.getMessageIdsCount();
            }
        };
    }

    private static <T> T cell(List<T> column, int index, T absent) {
        return index < column.size() ? column.get(index) : absent;
    }

    /**
     * The message's id.
     *
     * @return the id
     */
    public long id() {
        return rows.getMessageIds(index);
    }

    /**
     * Its UID in the folder.
     *
     * @return the UID; 0 for a recoverable message
     */
    public long uid() {
        return cell(rows.getUidsList(), index, 0L);
    }

    /**
     * The folder.
     *
     * @return its id
     */
    public long folderId() {
        return cell(rows.getFolderIdsList(), index, 0L);
    }

    /**
     * Its flags.
     *
     * @return a sum of {@link Flag} bits
     */
    public int flags() {
        return cell(rows.getFlagsList(), index, 0);
    }

    /**
     * Whether it has been read.
     *
     * @return whether
     */
    public boolean isSeen() {
        return (flags() & Flag.FLAG_SEEN_VALUE) != 0;
    }

    /**
     * Its keywords, in ascending order.
     *
     * @return them
     */
    public List<String> keywords() {
        int set = cell(rows.getKeywordSetsList(), index, 0);
        return set < rows.getKeywordTableCount() ? rows.getKeywordTable(set).getKeywordsList() : List.of();
    }

    /**
     * The change number of its last change.
     *
     * @return the number
     */
    public long changeNumber() {
        return cell(rows.getChangeNumbersList(), index, 0L);
    }

    /**
     * When it was received, in the zone that came with it.
     *
     * @return the time
     */
    public Optional<OffsetDateTime> receivedAt() {
        if (index >= rows.getReceivedAtSecondsCount()) {
            return Optional.empty();
        }
        int seconds = SECONDS_A_MINUTE * cell(rows.getReceivedOffsetMinutesList(), index, 0);
        Instant moment = Instant.ofEpochSecond(rows.getReceivedAtSeconds(index));
        return Optional.of(moment.atOffset(ZoneOffset.ofTotalSeconds(seconds)));
    }

    /**
     * Its size.
     *
     * @return octets of head and content
     */
    public long sizeOctets() {
        return cell(rows.getSizeOctetsList(), index, 0L);
    }

    /**
     * The parts of the message; {@link MessageParts} finds those that matter.
     *
     * @return the whole message, as the root of its parts
     */
    public MessagePart parts() {
        return cell(rows.getPartsList(), index, MessagePart.getDefaultInstance());
    }

    /**
     * The parsed header.
     *
     * @return the summary
     */
    public MessageSummary summary() {
        return cell(rows.getSummariesList(), index, MessageSummary.getDefaultInstance());
    }

    /**
     * The first 200 characters of text.
     *
     * @return them
     */
    public String preview() {
        return cell(rows.getPreviewsList(), index, "");
    }

    /**
     * How many attachments it has.
     *
     * @return the number
     */
    public int attachmentCount() {
        return cell(rows.getAttachmentCountsList(), index, 0);
    }

    /**
     * The octets of a section that was asked for.
     *
     * @param place its place among those asked for, from 0
     * @return the octets; empty where the message has no such part
     */
    public Optional<ByteString> section(int place) {
        SectionCells cells = rows.getSections(place);
        return cells.getTotalOctets(index) < 0 ? Optional.empty() : Optional.of(cells.getOctets(index));
    }
}
