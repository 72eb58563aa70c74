package io.restante.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.Message;
import io.grpc.Channel;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.restante.v1.BatchGetMessagesRequest;
import io.restante.v1.CommitToken;
import io.restante.v1.CreateFolderRequest;
import io.restante.v1.ErrorReason;
import io.restante.v1.Folder;
import io.restante.v1.FolderRole;
import io.restante.v1.FolderServiceGrpc;
import io.restante.v1.GetFolderRequest;
import io.restante.v1.ListFoldersRequest;
import io.restante.v1.MessageColumn;
import io.restante.v1.MessageIdSet;
import io.restante.v1.MessagePart;
import io.restante.v1.MessageRows;
import io.restante.v1.MessageServiceGrpc;
import io.restante.v1.MessageSet;
import io.restante.v1.ReadContentRequest;
import io.restante.v1.Section;
import io.restante.v1.SectionDecoding;
import io.restante.v1.SectionKind;
import io.restante.v1.Session;
import io.restante.v1.StreamMessagesRequest;
import io.restante.v1.SubmissionServiceGrpc;
import io.restante.v1.SubmitMessageResponse;
import io.restante.v1.SyncMailboxRequest;
import io.restante.v1.SyncMailboxResponse;
import io.restante.v1.UploadContentResponse;
import io.restante.v1.UploadKind;
import io.restante.v1.WatchJobRequest;
import io.restante.v1.WatchJobResponse;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.function.Consumer;

/**
 * One user's session with a server. It may be used by any number of threads, and is closed at the end.
 *
 * <p>Every unary RPC of the contract is called by its method, which the generated classes have:
 *
 * <pre>{@code
 * Folder inbox = client.call(FolderServiceGrpc.getGetFolderMethod(), request).getFolder();
 * }</pre>
 *
 * <p>Such a call gets a {@code request_id} where it needs one, the same for all its attempts; reads see what this client
 * has written ({@code min_commit}); what is temporary (UNAVAILABLE, a lost connection, TOO_MANY_OPERATIONS) is tried
 * again until the deadline, no sooner than the server asks for; a session that has expired is renewed first. Calls of all
 * threads travel together in one Execute stream: 256 operations and 1 MiB a message, 1,000 in flight, 64 of a session.
 *
 * <p>A deadline of the present {@link io.grpc.Context} and its cancellation hold for calls, as everywhere in gRPC. What
 * fails throws a {@link RestanteException}; a thread that is interrupted while it waits cancels its call, gets the code
 * CANCELLED and stays interrupted.
 */
public final class RestanteClient implements AutoCloseable {
    private static final int FOLDERS_PER_PAGE = 500;

    private final Core core;
    private final Channel channel;

    RestanteClient(Core core) {
        this.core = core;
        channel = new SessionChannel(core, core.config.address());
    }

    // --- The session ---

    /**
     * Connects and proves who the user is by a password. The session is renewed in the background until the client is
     * closed; after its 24 hours the password begins the next one (see {@link
     * RestanteConfig.Builder#forgetPassword}).
     *
     * @param config where the server is
     * @param user the account's address
     * @param password its password, or an app password
     * @return the client
     * @throws RestanteException AUTHENTICATION_FAILED for a wrong name or password, and TOO_MANY_ATTEMPTS with a delay
     *     after several; with the code UNAVAILABLE, naming the address and the cause, where the server cannot be
     *     reached within {@link RestanteConfig#patience}
     */
    public static RestanteClient logOn(RestanteConfig config, String user, String password) {
        return begun(config, client -> client.core.session.logOn(user, password));
    }

    /**
     * Connects with a session token that was kept, and tries it at once. There is no password: the session ends when it
     * cannot be renewed.
     *
     * @param config where the server is
     * @param token of {@link #session}
     * @return the client
     * @throws RestanteException SESSION_EXPIRED, SESSION_REVOKED or INVALID_SESSION
     */
    public static RestanteClient resume(RestanteConfig config, ByteString token) {
        return begun(config, client -> client.core.session.resume(token));
    }

    private static RestanteClient begun(RestanteConfig config, Consumer<RestanteClient> begin) {
        RestanteClient client = new RestanteClient(new Core(config));
        boolean done = false;
        try {
            begin.accept(client);
            done = true;
            return client;
        } catch (RestanteException failure) {
            throw client.unreached(failure);
        } finally {
            if (!done) {
                client.close();
            }
        }
    }

    /** The error of a first call: one that says where the server was looked for, if it could not be reached. */
    private RestanteException unreached(RestanteException failure) {
        RestanteException trouble = core.operations.trouble();
        boolean late = failure.code() == Status.Code.DEADLINE_EXCEEDED && trouble != null;
        RestanteException cause = late ? trouble : failure;
        if (cause.code() != Status.Code.UNAVAILABLE
                || cause.reason() != ErrorReason.ERROR_REASON_UNSPECIFIED) {
            return failure;
        }
        return RestanteException.unreachable(core.config.address(), cause);
    }

    /**
     * The session as it is now, with its token, which may be kept for {@link #resume}. No server is asked.
     *
     * @return the session
     */
    public Session session() {
        return core.session.present();
    }

    /**
     * Gets a fresh token now. There is seldom a need: the session is renewed in the background.
     *
     * <p>Where it cannot be renewed any more and the password is known, the user is logged on again.
     *
     * @throws RestanteException otherwise, SESSION_EXPIRED, SESSION_REVOKED or INVALID_SESSION
     */
    public void renew() {
        core.session.renew(core.session.token(), Core.deadline(core.config.timeout()));
    }

    /**
     * Sets a new password. Other sessions of the account end; this client goes on under a new one. The call is not sent
     * again when its answer is lost.
     *
     * @param old the present password
     * @param chosen the new one
     * @throws RestanteException AUTHENTICATION_FAILED for a wrong old password, WEAK_PASSWORD for a new one that is not
     *     taken
     */
    public void changePassword(String old, String chosen) {
        core.session.changePassword(old, chosen);
    }

    /** Ends the session at the server. The client must still be closed. */
    public void logOff() {
        core.session.logOff();
    }

    /**
     * Tells when the session is over: it was logged off, or could not be renewed any more.
     *
     * @return completed with the reason then
     */
    public CompletableFuture<RestanteException> ended() {
        return core.session.ended().copy();
    }

    /**
     * Ends all streams and connections; harmless to repeat. The session itself stays good until it lapses: {@link #logOff}
     * ends it. Calls that are under way fail with the code CANCELLED.
     */
    @Override
    public void close() {
        core.close();
    }

    // --- Calls ---

    /**
     * Makes a unary call of the contract and waits for its answer, with the client's timeout.
     *
     * @param method of a generated class, such as {@code FolderServiceGrpc.getGetFolderMethod()}
     * @param request its request
     * @param <Q> the request's type
     * @param <A> the response's
     * @return its response
     * @throws RestanteException as the method's comment says
     */
    public <Q extends Message, A extends Message> A call(MethodDescriptor<Q, A> method, Q request) {
        return core.call(method, request, core.config.timeout());
    }

    /**
     * Makes a unary call of the contract and waits for its answer.
     *
     * @param method of a generated class
     * @param request its request
     * @param timeout its deadline, retries included
     * @param <Q> the request's type
     * @param <A> the response's
     * @return its response
     * @throws RestanteException as the method's comment says; with the code DEADLINE_EXCEEDED after the timeout
     */
    public <Q extends Message, A extends Message> A call(MethodDescriptor<Q, A> method, Q request, Duration timeout) {
        return core.call(method, request, timeout);
    }

    /**
     * Makes a unary call of the contract without waiting, with the client's timeout.
     *
     * @param method of a generated class
     * @param request its request
     * @param <Q> the request's type
     * @param <A> the response's
     * @return completed with its response or a {@link RestanteException}; cancelling it cancels the call
     */
    public <Q extends Message, A extends Message> CompletableFuture<A> callAsync(
            MethodDescriptor<Q, A> method, Q request) {
        return callAsync(method, request, core.config.timeout());
    }

    /**
     * Makes a unary call of the contract without waiting.
     *
     * @param method of a generated class
     * @param request its request
     * @param timeout its deadline, retries included
     * @param <Q> the request's type
     * @param <A> the response's
     * @return completed with its response or a {@link RestanteException}; cancelling it cancels the call
     */
    public <Q extends Message, A extends Message> CompletableFuture<A> callAsync(
            MethodDescriptor<Q, A> method, Q request, Duration timeout) {
        return new LogicalCall<>(core, method, request, core.session, Core.deadline(timeout)).begin().future();
    }

    /**
     * Hands an operation to the Execute stream and returns at once.
     *
     * <p>Operations are sent in the order of these calls, and each begins after the one before has answered, unless
     * independent. The stream keeps its bounds: 256 operations and 1 MiB a message, 64 operations in flight (more are
     * held back). Where it is lost, what was not answered is sent again on the next. Otherwise the request goes as it is,
     * and once: a missing request_id is an error, and nothing is repeated that the server has answered.
     *
     * @param method a unary RPC, of a generated class
     * @param request its request
     * @param options its deadline, and whether it waits for others
     * @param <Q> the request's type
     * @param <A> the response's
     * @return completed with its response or a {@link RestanteException}; cancelling it cancels the operation
     */
    public <Q extends Message, A extends Message> CompletableFuture<A> execute(
            MethodDescriptor<Q, A> method, Q request, ExecuteOptions options) {
        if (MethodFacts.of(method).operation == null) {
            throw new IllegalArgumentException(method.getFullMethodName() + " is no operation of a batch");
        }
        LogicalCall<Q, A> call =
                new LogicalCall<>(core, method, request, core.session, Core.deadline(options.timeout())).once();
        return (options.independent() ? call : call.inOrder()).begin().future();
    }

    /**
     * Every page of a list, each fetched when it is asked for, by a call with a deadline of its own.
     *
     * <pre>{@code
     * for (ListFoldersResponse page : client.pages(FolderServiceGrpc.getListFoldersMethod(), request)) { ... }
     * }</pre>
     *
     * @param method a unary RPC with {@code page_size} and {@code page_token}
     * @param request its request
     * @param <Q> the request's type
     * @param <A> the response's
     * @return the pages; each loop begins anew
     */
    public <Q extends Message, A extends Message> Iterable<A> pages(MethodDescriptor<Q, A> method, Q request) {
        return () -> new Pages<>(wanted -> call(method, wanted), request);
    }

    /**
     * A channel for the generated stubs: unary calls are made as {@link #call} makes them, streams as this session, once.
     * The cause of what a stub throws is a {@link RestanteException}, which {@link RestanteException#of(Throwable)} finds.
     *
     * @return the channel, which ends with this client
     */
    public Channel channel() {
        return channel;
    }

    /**
     * The latest write to a mailbox that this client has seen. Reads by this client carry it; it may be handed to another
     * client, whose reads then see what this one wrote.
     *
     * @param mailboxId the mailbox; 0: the user's own
     * @return the commit
     */
    public Optional<CommitToken> minCommit(long mailboxId) {
        return Optional.ofNullable(core.minCommit(mailboxId));
    }

    /**
     * Makes a fresh request id. Calls get one where theirs is empty; this is for programs that repeat a call themselves,
     * also after a restart.
     *
     * @return 16 random octets
     */
    public static ByteString newRequestId() {
        return MethodFacts.newRequestId();
    }

    // --- Octets ---

    /**
     * Uploads octets that are too many for one call. The answer's {@code upload_id} goes into AppendMessage,
     * SubmitMessage or an attachment, within an hour.
     *
     * <p>It begins anew when the connection breaks, as long as the client's timeout brings it further.
     *
     * @param kind what it is for
     * @param source gives the octets
     * @return the answer
     * @throws IOException of the source
     * @throws RestanteException MESSAGE_TOO_LARGE, INVALID_CONTENT or STORE_FULL
     */
    public UploadContentResponse upload(UploadKind kind, UploadSource source) throws IOException {
        return new Upload(core, kind, source).run();
    }

    /**
     * Uploads a file.
     *
     * @param kind what it is for
     * @param file the file
     * @return the answer
     * @throws IOException when it cannot be read
     * @throws RestanteException MESSAGE_TOO_LARGE, INVALID_CONTENT or STORE_FULL
     */
    public UploadContentResponse upload(UploadKind kind, Path file) throws IOException {
        return upload(kind, () -> Files.newInputStream(file));
    }

    /**
     * Uploads octets.
     *
     * @param kind what it is for
     * @param octets the octets
     * @return the answer
     * @throws RestanteException MESSAGE_TOO_LARGE, INVALID_CONTENT or STORE_FULL
     */
    public UploadContentResponse upload(UploadKind kind, byte[] octets) {
        try {
            return upload(kind, () -> new ByteArrayInputStream(octets));
        } catch (IOException never) {
            throw new AssertionError(never); // an array cannot fail
        }
    }

    /**
     * Reads a message of the user's own mailbox as it is stored.
     *
     * @param messageId the message
     * @return its octets, to be closed
     */
    public ContentStream openContent(long messageId) {
        return openContent(messageId, Section.newBuilder().setKind(SectionKind.SECTION_KIND_WHOLE).build());
    }

    /**
     * Reads a section of a message of the user's own mailbox.
     *
     * @param messageId the message
     * @param section what of it
     * @return its octets, to be closed
     */
    public ContentStream openContent(long messageId, Section section) {
        return openContent(ReadContentRequest.newBuilder().setMessageId(messageId).setSection(section).build());
    }

    /**
     * Reads octets of any mailbox that the user may read.
     *
     * @param request names them
     * @return the octets, to be closed
     */
    public ContentStream openContent(ReadContentRequest request) {
        return new ContentStream(core, request);
    }

    /**
     * All the octets of a message of the user's own mailbox.
     *
     * @param messageId the message
     * @return its octets
     * @throws RestanteException MESSAGE_NOT_FOUND
     */
    public ByteString readContent(long messageId) {
        try (ContentStream opened = openContent(messageId)) {
            return opened.rope();
        }
    }

    /**
     * All the octets of a section of a message of the user's own mailbox.
     *
     * @param messageId the message
     * @param section what of it
     * @return its octets
     * @throws RestanteException MESSAGE_NOT_FOUND or PART_NOT_FOUND
     */
    public ByteString readContent(long messageId, Section section) {
        try (ContentStream opened = openContent(messageId, section)) {
            return opened.rope();
        }
    }

    /**
     * The part tree of a message of the user's own mailbox.
     *
     * @param messageId the message
     * @return the whole message, as the root of its parts
     * @throws RestanteException MESSAGE_NOT_FOUND
     */
    public MessagePart parts(long messageId) {
        BatchGetMessagesRequest request = BatchGetMessagesRequest.newBuilder()
                .setMessages(MessageSet.newBuilder()
                        .setIds(MessageIdSet.newBuilder().addMessageIds(messageId)))
                .addColumns(MessageColumn.MESSAGE_COLUMN_PARTS)
                .build();
        return MessageRow.of(call(MessageServiceGrpc.getBatchGetMessagesMethod(), request).getRows()).stream()
                .map(MessageRow::parts)
                .findFirst()
                .orElseThrow(() -> RestanteException.messageNotFound(messageId));
    }

    /**
     * Reads a part of a message of the user's own mailbox without its transfer encoding. The multipart of a whole message
     * has no octets of its own.
     *
     * @param messageId the message
     * @param part of its part tree
     * @return its octets, to be closed
     */
    public ContentStream openPart(long messageId, MessagePart part) {
        return openContent(messageId, MessageParts.section(part, SectionDecoding.SECTION_DECODING_TRANSFER));
    }

    /**
     * All the octets of a part of a message of the user's own mailbox, without its transfer encoding.
     *
     * @param messageId the message
     * @param part of its part tree
     * @return its octets
     * @throws RestanteException MESSAGE_NOT_FOUND or PART_NOT_FOUND
     */
    public ByteString readPart(long messageId, MessagePart part) {
        try (ContentStream opened = openPart(messageId, part)) {
            return opened.rope();
        }
    }

    /**
     * The text of a text part of a message of the user's own mailbox. The server decodes its charset.
     *
     * @param messageId the message
     * @param part of its part tree
     * @return its text; line ends are LF
     * @throws RestanteException MESSAGE_NOT_FOUND or PART_NOT_FOUND
     */
    public String readText(long messageId, MessagePart part) {
        Section section = MessageParts.section(part, SectionDecoding.SECTION_DECODING_TEXT);
        return readContent(messageId, section).toStringUtf8().replace("\r\n", "\n");
    }

    /**
     * Reads columns and sections of any number of messages, a batch at a time. Octets that the contract cuts at the end of
     * a batch are put together: every cell is whole, and the largest message bounds the memory. A stream that breaks is
     * opened again with the messages that have not been told.
     *
     * @param request names them
     * @return the batches; {@link MessageRow#of} gives the messages of one
     */
    public EventStream<MessageRows> streamMessages(StreamMessagesRequest request) {
        return new MessageBatches(core, request);
    }

    // --- Folders and sending ---

    /**
     * A folder of the user's own mailbox as it is now.
     *
     * @param path its names from the top, such as {@code INBOX} or {@code Work/2026}
     * @return the folder
     * @throws RestanteException FOLDER_NOT_FOUND
     */
    public Folder folder(String path) {
        GetFolderRequest request = GetFolderRequest.newBuilder().addAllPath(levels(path)).build();
        return call(FolderServiceGrpc.getGetFolderMethod(), request).getFolder();
    }

    /**
     * A folder of the user's own mailbox by what it is for, whatever it is called.
     *
     * @param role the Inbox, Sent, Drafts, Trash, Junk or Archive
     * @return the folder
     * @throws RestanteException FOLDER_NOT_FOUND
     */
    public Folder folder(FolderRole role) {
        GetFolderRequest request = GetFolderRequest.newBuilder().setRole(role).build();
        return call(FolderServiceGrpc.getGetFolderMethod(), request).getFolder();
    }

    /**
     * All folders of the user's own mailbox with their counts, parents before children.
     *
     * @return the folders
     */
    public List<Folder> folders() {
        ListFoldersRequest request = ListFoldersRequest.newBuilder().setPageSize(FOLDERS_PER_PAGE).build();
        List<Folder> found = new ArrayList<>();
        pages(FolderServiceGrpc.getListFoldersMethod(), request).forEach(page -> found.addAll(page.getFoldersList()));
        return found;
    }

    /**
     * Makes a folder of the user's own mailbox, and those above it that are missing.
     *
     * @param path its names from the top, such as {@code Work/2026}
     * @return the folder
     * @throws RestanteException FOLDER_EXISTS, or INVALID_ARGUMENT for a name that no folder may have
     */
    public Folder newFolder(String path) {
        CreateFolderRequest request = CreateFolderRequest.newBuilder().addAllPath(levels(path)).build();
        return call(FolderServiceGrpc.getCreateFolderMethod(), request).getFolder();
    }

    private static List<String> levels(String path) {
        return Arrays.stream(path.split("/")).filter(level -> !level.isEmpty()).toList();
    }

    /**
     * Sends a message. Files that are too large for one call are uploaded first.
     *
     * <pre>{@code
     * client.send(Mail.to("Bob <bob@example.test>").subject("Plan").text("See the file.").attach(Path.of("plan.pdf")));
     * }</pre>
     *
     * @param mail the message
     * @return what the server made of it, with the state of each recipient
     * @throws IOException when a file cannot be read; nothing is sent then
     * @throws RestanteException SENDER_NOT_PERMITTED, RECIPIENT_NOT_FOUND, INVALID_ADDRESS, NO_RECIPIENTS or
     *     MESSAGE_TOO_LARGE
     */
    public SubmitMessageResponse send(Mail mail) throws IOException {
        return call(SubmissionServiceGrpc.getSubmitMessageMethod(), mail.request(this));
    }

    // --- Changes ---

    /**
     * Tells the changes of a folder. All watches of a client share one stream.
     *
     * <p>When the stream breaks it is opened again from the last change number that was told, so that nothing is missed.
     * When the server knows no changes so old, or a reader lags too far, the folder is read anew and the next event is
     * fresh. It fails with FOLDER_NOT_FOUND when the folder is gone, and with the session's end.
     *
     * @param folderId the folder
     * @param options where it begins
     * @return the events
     */
    public EventStream<FolderEvent> watch(long folderId, WatchOptions options) {
        return new FolderWatch(core, folderId, options);
    }

    /**
     * Tells each new change number of a mailbox from now on, as {@link #watch} does for a folder.
     *
     * @param mailboxId the mailbox; 0: the user's own
     * @return the events
     */
    public EventStream<MailboxEvent> watchMailbox(long mailboxId) {
        return new MailboxWatch(core, mailboxId);
    }

    /**
     * Brings a copy of a mailbox or folder up to date and, with {@code follow}, keeps it so: all that is there, or has
     * changed since the cursor of the request, and then what comes.
     *
     * <p>Keep the cursor of each checkpoint to go on later. A stream that breaks is opened again from the last checkpoint
     * that was told; what came after it may come again. After a reset throw the copy away: everything follows anew. It
     * fails with such as CURSOR_INVALID, and ends by itself without {@code follow}.
     *
     * @param request what to sync
     * @return the changes
     */
    public EventStream<SyncMailboxResponse> sync(SyncMailboxRequest request) {
        return new MailboxSync(core, request);
    }

    /**
     * Tells a job as it is now, and after each change until its end, with each finding once.
     *
     * <p>A stream that breaks is opened again behind the last finding. Closing it leaves the job running. It fails with
     * such as JOB_NOT_FOUND and, for a session that may not administer, PERMISSION_DENIED.
     *
     * @param request the job, and the last finding that is known
     * @return its states
     */
    public EventStream<WatchJobResponse> watchJob(WatchJobRequest request) {
        return new JobWatch(core, request);
    }
}
