package io.restante.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.restante.v1.MessagePart;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

/** Parts of a message, found in its tree. */
class MessagePartsTest {
    private static MessagePart.Builder part(String mediaType, Integer... number) {
        return MessagePart.newBuilder().setMediaType(mediaType).addAllPart(List.of(number));
    }

    private static final MessagePart TREE = part("multipart/mixed")
            .addParts(part("multipart/alternative", 1)
                    .addParts(part("text/plain", 1, 1))
                    .addParts(part("text/html", 1, 2)))
            .addParts(part("message/rfc822", 2)
                    .setAttachment(true)
                    .addParts(part("text/csv", 2, 1).setAttachment(true)))
            .addParts(part("text/plain", 3).setFileName("notes.txt").setAttachment(true))
            .build();

    @Test
    void partsAndAttachmentsAreThoseOfTheMessageItself() {
        List<List<Integer>> numbers = List.of(List.of(), List.of(1), List.of(1, 1), List.of(1, 2), List.of(2), List.of(3));
        assertEquals(numbers, MessageParts.of(TREE).map(MessagePart::getPartList).toList());
        List<String> types =
                MessageParts.attachments(TREE).stream().map(MessagePart::getMediaType).toList();
        assertEquals(List.of("message/rfc822", "text/plain"), types);
    }

    @Test
    void aPartIsFoundByItsMediaType() {
        assertEquals(List.of(1, 1), MessageParts.find(TREE, "text/plain").orElseThrow().getPartList());
        assertEquals(Optional.empty(), MessageParts.find(TREE, "text/csv"));
        MessagePart single = part("text/html", 1).build();
        assertEquals(Optional.of(single), MessageParts.find(single, "text/html"));
    }
}
