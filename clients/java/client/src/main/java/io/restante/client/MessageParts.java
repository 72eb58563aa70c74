package io.restante.client;

import io.restante.v1.MessagePart;
import io.restante.v1.Section;
import io.restante.v1.SectionDecoding;
import io.restante.v1.SectionKind;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;

/** The parts of a message, found in its part tree. */
public final class MessageParts {
    private MessageParts() {}

    /**
     * A part and the parts below it, in order, without those of embedded messages.
     *
     * @param root the part
     * @return the parts
     */
    public static Stream<MessagePart> of(MessagePart root) {
        Stream<MessagePart> below = root.getMediaType().startsWith("multipart/")
                ? root.getPartsList().stream().flatMap(MessageParts::of)
                : Stream.empty();
        return Stream.concat(Stream.of(root), below);
    }

    /**
     * The attachments of a message, in order. An embedded message counts as one.
     *
     * @param root the whole message
     * @return its attachments
     */
    public static List<MessagePart> attachments(MessagePart root) {
        return of(root).filter(MessagePart::getAttachment).toList();
    }

    /**
     * The first part of a media type that is no attachment.
     *
     * @param root the whole message
     * @param mediaType such as {@code text/plain}
     * @return the part, empty where there is none
     */
    public static Optional<MessagePart> find(MessagePart root, String mediaType) {
        return of(root)
                .filter(part -> part.getMediaType().equals(mediaType) && !part.getAttachment())
                .findFirst();
    }

    static Section section(MessagePart part, SectionDecoding decoding) {
        return Section.newBuilder()
                .addAllPart(part.getPartList())
                .setKind(SectionKind.SECTION_KIND_WHOLE)
                .setDecoding(decoding)
                .build();
    }
}
