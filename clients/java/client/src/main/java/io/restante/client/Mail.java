package io.restante.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.Timestamp;
import io.restante.v1.Attachment;
import io.restante.v1.Draft;
import io.restante.v1.MailAddress;
import io.restante.v1.SubmitMessageRequest;
import io.restante.v1.UploadKind;
import java.io.IOException;
import java.net.URLConnection;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * A message to send by {@link RestanteClient#send}. Each method adds to it or sets a part of it, and gives it back.
 *
 * <p>Addresses are {@code alice@example.org} or {@code Alice <alice@example.org>}; the server says which of them is none.
 */
public final class Mail {
    private static final int INLINE_OCTETS = 256 << 10; // of files within the call; the rest is uploaded before it

    private final Draft.Builder draft = Draft.newBuilder();
    private final List<OutgoingFile> files = new ArrayList<>();
    private Instant sendAt;

    private Mail() {}

    /** Octets, or a path that is read when the message is sent. */
    private record OutgoingFile(String name, String mediaType, String contentId, byte[] octets, Path path) {
        long size() throws IOException {
            return path == null ? octets.length : Files.size(path);
        }

        ByteString content() throws IOException {
            return ByteString.copyFrom(path == null ? octets : Files.readAllBytes(path));
        }

        ByteString upload(RestanteClient client) throws IOException {
            UploadKind kind = UploadKind.UPLOAD_KIND_ATTACHMENT;
            return (path == null ? client.upload(kind, octets) : client.upload(kind, path)).getUploadId();
        }
    }

    /**
     * A message to these people.
     *
     * @param addresses the To field
     * @return the message, to go on with
     */
    public static Mail to(String... addresses) {
        Mail mail = new Mail();
        mail.draft.addAllTo(addresses(addresses));
        return mail;
    }

    /**
     * Adds people to the Cc field.
     *
     * @param addresses whom
     * @return this message
     */
    public Mail cc(String... addresses) {
        draft.addAllCc(addresses(addresses));
        return this;
    }

    /**
     * Adds recipients that only the sender's own copy names.
     *
     * @param addresses whom
     * @return this message
     */
    public Mail bcc(String... addresses) {
        draft.addAllBcc(addresses(addresses));
        return this;
    }

    /**
     * Sets the author; otherwise it is the user of the session.
     *
     * @param address the From field
     * @return this message
     */
    public Mail from(String address) {
        draft.setAuthor(address(address));
        return this;
    }

    /**
     * Sets where replies go, if not to the author.
     *
     * @param addresses the Reply-To field
     * @return this message
     */
    public Mail replyTo(String... addresses) {
        draft.clearReplyTo().addAllReplyTo(addresses(addresses));
        return this;
    }

    /**
     * Sets the subject.
     *
     * @param text without line ends
     * @return this message
     */
    public Mail subject(String text) {
        draft.setSubject(text);
        return this;
    }

    /**
     * Sets the body in plain text. With {@link #html} as well, readers choose.
     *
     * @param text the body
     * @return this message
     */
    public Mail text(String text) {
        draft.setText(text);
        return this;
    }

    /**
     * Sets the body in HTML.
     *
     * @param html the body
     * @return this message
     */
    public Mail html(String html) {
        draft.setHtml(html);
        return this;
    }

    /**
     * Adds a file, which is read when the message is sent.
     *
     * @param file the file; its name says the media type
     * @return this message
     */
    public Mail attach(Path file) {
        files.add(new OutgoingFile(String.valueOf(file.getFileName()), "", "", null, file));
        return this;
    }

    /**
     * Adds a file.
     *
     * @param name what the reader sees; it says the media type
     * @param octets the content
     * @return this message
     */
    public Mail attach(String name, byte[] octets) {
        return attach(name, "", octets);
    }

    /**
     * Adds a file of a media type.
     *
     * @param name what the reader sees
     * @param mediaType such as {@code application/pdf}
     * @param octets the content
     * @return this message
     */
    public Mail attach(String name, String mediaType, byte[] octets) {
        files.add(new OutgoingFile(name, mediaType, "", octets.clone(), null));
        return this;
    }

    /**
     * Adds a file that the HTML body shows, by {@code cid:} and the content id.
     *
     * @param contentId without angle brackets
     * @param name its name; it says the media type
     * @param octets the content
     * @return this message
     */
    public Mail inline(String contentId, String name, byte[] octets) {
        files.add(new OutgoingFile(name, "", contentId, octets.clone(), null));
        return this;
    }

    /**
     * Makes it an answer to a message.
     *
     * @param messageId of that message, with its angle brackets
     * @param references of that message, the oldest first
     * @return this message
     */
    public Mail inReplyTo(String messageId, List<String> references) {
        draft.setInReplyTo(messageId).clearReferences().addAllReferences(references).addReferences(messageId);
        return this;
    }

    /**
     * Sets when it is sent; otherwise that is at once.
     *
     * @param moment when
     * @return this message
     */
    public Mail sendAt(Instant moment) {
        sendAt = moment;
        return this;
    }

    /** The request, once its large files are uploaded. */
    SubmitMessageRequest request(RestanteClient client) throws IOException {
        Draft.Builder whole = draft.clone();
        long room = INLINE_OCTETS;
        for (OutgoingFile file : files) {
            Attachment.Builder attachment = Attachment.newBuilder()
                    .setFileName(file.name())
                    .setMediaType(file.mediaType().isEmpty() ? guessed(file.name()) : file.mediaType())
                    .setInlined(!file.contentId().isEmpty())
                    .setContentId(file.contentId());
            long size = file.size();
            if (size <= room) {
                room -= size;
                attachment.setContent(file.content());
            } else {
                attachment.setUploadId(file.upload(client));
            }
            whole.addAttachments(attachment);
        }
        SubmitMessageRequest.Builder request = SubmitMessageRequest.newBuilder().setDraft(whole);
        if (sendAt != null) {
            request.setSendAt(
                    Timestamp.newBuilder().setSeconds(sendAt.getEpochSecond()).setNanos(sendAt.getNano()));
        }
        return request.build();
    }

    private static String guessed(String name) {
        String known = URLConnection.guessContentTypeFromName(name);
        return known == null ? "application/octet-stream" : known;
    }

    private static List<MailAddress> addresses(String... texts) {
        return Arrays.stream(texts).map(Mail::address).toList();
    }

    /** {@code Name <address>}, the name perhaps quoted, or an address alone. */
    static MailAddress address(String text) {
        String whole = text.strip();
        int opened = whole.lastIndexOf('<');
        if (opened < 0 || !whole.endsWith(">")) {
            return MailAddress.newBuilder().setAddress(whole).build();
        }
        String name = whole.substring(0, opened).strip();
        if (name.length() > 1 && name.startsWith("\"") && name.endsWith("\"")) {
            name = name.substring(1, name.length() - 1).replaceAll("\\\\(.)", "$1");
        }
        String address = whole.substring(opened + 1, whole.length() - 1).strip();
        return MailAddress.newBuilder().setDisplayName(name).setAddress(address).build();
    }
}
