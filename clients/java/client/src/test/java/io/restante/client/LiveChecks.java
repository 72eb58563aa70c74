package io.restante.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import io.restante.v1.AdminServiceGrpc;
import io.restante.v1.AppendMessageRequest;
import io.restante.v1.CheckStoreRequest;
import io.restante.v1.CommitToken;
import io.restante.v1.ErrorReason;
import io.restante.v1.Folder;
import io.restante.v1.FolderRole;
import io.restante.v1.FolderServiceGrpc;
import io.restante.v1.GetFolderRequest;
import io.restante.v1.GetFolderResponse;
import io.restante.v1.GetMailboxRequest;
import io.restante.v1.IdRange;
import io.restante.v1.Job;
import io.restante.v1.JobState;
import io.restante.v1.MailboxServiceGrpc;
import io.restante.v1.MessagePart;
import io.restante.v1.MessageRows;
import io.restante.v1.MessageServiceGrpc;
import io.restante.v1.MessageSet;
import io.restante.v1.OpenFolderRequest;
import io.restante.v1.Section;
import io.restante.v1.SectionKind;
import io.restante.v1.StreamMessagesRequest;
import io.restante.v1.UidSet;
import io.restante.v1.UploadKind;
import io.restante.v1.WatchJobRequest;
import io.restante.v1.WatchJobResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * Streams, threads and sessions against a running demo. Its name keeps it from `mvn test`, which has no server:
 * tests/clients/java/test_java.py runs it by -Dtest=LiveChecks, with -Drestante.target=HOST:PORT -Drestante.ca=FILE.
 */
@Timeout(60)
class LiveChecks {
    private static final String PASSWORD = "carol-demo";

    private RestanteClient client;
    private Folder inbox;

    @BeforeEach
    void begin() throws Exception {
        RestanteConfig config = RestanteConfig.newBuilder(System.getProperty("restante.target"))
                .trust(Path.of(System.getProperty("restante.ca")))
                .build();
        client = RestanteClient.logOn(config, "carol@example.test", PASSWORD);
        inbox = client.call(
                        FolderServiceGrpc.getGetFolderMethod(),
                        GetFolderRequest.newBuilder().setRole(FolderRole.FOLDER_ROLE_INBOX).build())
                .getFolder();
    }

    @AfterEach
    void end() {
        client.close();
    }

    private static ByteString message(int octets) {
        String head = "Subject: Live\r\n\r\n";
        return ByteString.copyFrom(head + "0123456789abcd\r\n".repeat(octets / 16), StandardCharsets.US_ASCII);
    }

    private long append(ByteString content) {
        ByteString upload = client.upload(UploadKind.UPLOAD_KIND_MESSAGE, content.toByteArray()).getUploadId();
        AppendMessageRequest request = AppendMessageRequest.newBuilder()
                .setFolderId(inbox.getFolderId())
                .setUploadId(upload)
                .build();
        return client.call(MessageServiceGrpc.getAppendMessageMethod(), request).getMessageId();
    }

    @Test
    void mailIsSentWithFilesLargeAndSmallAndFoldersAreFound() throws Exception {
        byte[] large = message(700_000).toByteArray();
        client.send(Mail.to("carol@example.test")
                .subject("Files from Java")
                .text("Both.")
                .attach("small.txt", "small".getBytes(StandardCharsets.US_ASCII))
                .attach("large.bin", large));
        try (EventStream<FolderEvent> events = client.watch(inbox.getFolderId(), WatchOptions.since(inbox.getChangeNumber()))) {
            List<Long> arrived = events.next().changes().getMessageIdsList();
            while (arrived.isEmpty()) {
                arrived = events.next().changes().getMessageIdsList();
            }
            ByteString octets = client.readContent(arrived.get(0));
            assertTrue(octets.size() > large.length);
            assertTrue(octets.toStringUtf8().contains("small.txt"));
        }
        Folder made = client.newFolder("Java/Helpers");
        assertEquals(made.getFolderId(), client.folder("Java/Helpers").getFolderId());
        assertEquals(inbox.getFolderId(), client.folder(FolderRole.FOLDER_ROLE_INBOX).getFolderId());
        List<Long> all = client.folders().stream().map(Folder::getFolderId).toList();
        assertTrue(all.containsAll(List.of(made.getFolderId(), inbox.getFolderId())), all.toString());
        RestanteException failure = assertThrows(RestanteException.class, () -> client.folder("Java/Absent"));
        assertEquals(ErrorReason.ERROR_REASON_FOLDER_NOT_FOUND, failure.reason());
    }

    @Test
    void streamedCellsAreWhole() {
        Map<Long, ByteString> wanted = new HashMap<>();
        for (int octets : List.of(100, 700_000, 3_000, 2_000_000, 50)) {
            ByteString content = message(octets);
            wanted.put(append(content), content);
        }
        Section whole = Section.newBuilder().setKind(SectionKind.SECTION_KIND_WHOLE).build();
        StreamMessagesRequest request = StreamMessagesRequest.newBuilder()
                .setMessages(MessageSet.newBuilder()
                        .setUids(UidSet.newBuilder()
                                .setFolderId(inbox.getFolderId())
                                .addRanges(IdRange.newBuilder()
                                        .setFirst(inbox.getUidNext())
                                        .setLast(1L << 31))))
                .addSections(whole)
                .addSections(whole.toBuilder().addPart(7))
                .build();
        try (EventStream<MessageRows> batches = client.streamMessages(request)) {
            for (MessageRows batch : batches) {
                for (MessageRow row : MessageRow.of(batch)) {
                    assertTrue(row.section(0).orElseThrow().endsWith(wanted.remove(row.id())));
                    assertTrue(row.section(1).isEmpty());
                }
            }
            assertTrue(batches.isEnded());
        }
        assertEquals(Map.of(), wanted);
        EventStream<MessageRows> begun = client.streamMessages(request);
        assertTrue(begun.hasNext());
        begun.close();
    }

    @Test
    void partsAreReadDecoded() {
        String content = """
                Subject: Parts
                MIME-Version: 1.0
                Content-Type: multipart/mixed; boundary=x

                --x
                Content-Type: text/plain; charset=iso-8859-1
                Content-Transfer-Encoding: quoted-printable

                Gr=FC=DFe
                Alice
                --x
                Content-Type: application/octet-stream
                Content-Disposition: attachment; filename=data.bin
                Content-Transfer-Encoding: base64

                AAECAw==
                --x--
                """;
        long id = append(ByteString.copyFromUtf8(content.replace("\n", "\r\n")));
        MessagePart root = client.parts(id);
        assertEquals("multipart/mixed", root.getMediaType());
        assertEquals("Grüße\nAlice", client.readText(id, MessageParts.find(root, "text/plain").orElseThrow()));
        List<MessagePart> attachments = MessageParts.attachments(root);
        assertEquals(List.of("data.bin"), attachments.stream().map(MessagePart::getFileName).toList());
        ByteString octets = ByteString.copyFrom(new byte[] {0, 1, 2, 3});
        assertEquals(octets, client.readPart(id, attachments.get(0)));
        RestanteException missing = assertThrows(RestanteException.class, () -> client.parts(1L << 40));
        assertEquals(ErrorReason.ERROR_REASON_MESSAGE_NOT_FOUND, missing.reason());
    }

    @Test
    void contentIsReadInPieces() throws Exception {
        ByteString content = message(700_000);
        long id = append(content);
        try (ContentStream opened = client.openContent(id)) {
            assertEquals(opened.sizeOctets(), client.readContent(id).size());
            assertEquals(opened.sizeOctets(), opened.readAllBytes().length);
            assertEquals(-1, opened.read());
        }
        ContentStream begun = client.openContent(id);
        assertTrue(begun.read() >= 0);
        begun.close();
        RestanteException gone = assertThrows(RestanteException.class, () -> client.readContent(1L << 40));
        assertEquals(ErrorReason.ERROR_REASON_MESSAGE_NOT_FOUND, gone.reason());
    }

    @Test
    void threadsShareTheStreamBeyondTheSessionsBound() throws Exception {
        GetFolderRequest request = GetFolderRequest.newBuilder().setFolderId(inbox.getFolderId()).build();
        List<Thread> threads = new ArrayList<>();
        AtomicReference<Throwable> failure = new AtomicReference<>();
        for (int i = 0; i < 200; i++) {
            Thread made = new Thread(() -> client.call(FolderServiceGrpc.getGetFolderMethod(), request));
            made.setUncaughtExceptionHandler((thread, thrown) -> failure.set(thrown));
            made.start();
            threads.add(made);
        }
        List<CompletableFuture<GetFolderResponse>> futures = new ArrayList<>();
        for (int i = 0; i < 300; i++) {
            futures.add(client.callAsync(FolderServiceGrpc.getGetFolderMethod(), request));
        }
        for (Thread each : threads) {
            each.join();
        }
        futures.forEach(each -> assertEquals(inbox.getFolderId(), each.join().getFolder().getFolderId()));
        assertEquals(null, failure.get());
    }

    @Test
    void stubsStreamAndHaveMetadataOfTheirOwn() {
        Metadata entries = new Metadata();
        entries.put(Metadata.Key.of("of-the-program", Metadata.ASCII_STRING_MARSHALLER), "x");
        var folders = FolderServiceGrpc.newBlockingStub(client.channel())
                .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(entries));
        GetFolderRequest request = GetFolderRequest.newBuilder().setFolderId(inbox.getFolderId()).build();
        assertEquals(inbox.getFolderId(), folders.getFolder(request).getFolder().getFolderId());
        var opened = folders.openFolder(OpenFolderRequest.newBuilder().setFolderId(inbox.getFolderId()).build());
        assertEquals(inbox.getFolderId(), opened.next().getFolder().getFolderId());
        var missing = folders.openFolder(OpenFolderRequest.newBuilder().setFolderId(1L << 40).build());
        StatusRuntimeException thrown = assertThrows(StatusRuntimeException.class, missing::next);
        assertEquals(ErrorReason.ERROR_REASON_FOLDER_NOT_FOUND, RestanteException.of(thrown).reason());
    }

    @Test
    void whatIsTooLargeForABatchIsACallOfItsOwn() {
        AppendMessageRequest tooLarge = AppendMessageRequest.newBuilder()
                .setFolderId(inbox.getFolderId())
                .setContent(message(2 << 20))
                .build();
        RestanteException refused = assertThrows(
                RestanteException.class, () -> client.call(MessageServiceGrpc.getAppendMessageMethod(), tooLarge));
        assertEquals(Status.Code.RESOURCE_EXHAUSTED, refused.code());
        assertFalse(refused.getMessage().contains("batch"), refused.getMessage()); // it is the server that refuses
    }

    @Test
    void aDeadlineEndsAWait() {
        CommitToken never = CommitToken.newBuilder()
                .setMailboxId(client.session().getMailboxId())
                .setChangeNumber(1L << 40)
                .setEpoch(1)
                .build();
        GetMailboxRequest request = GetMailboxRequest.newBuilder().setMinCommit(never).build();
        long began = System.nanoTime();
        RestanteException late = assertThrows(
                RestanteException.class,
                () -> client.call(MailboxServiceGrpc.getGetMailboxMethod(), request, Duration.ofMillis(300)));
        assertTrue(late.code() == Status.Code.DEADLINE_EXCEEDED
                || late.reason() == ErrorReason.ERROR_REASON_COMMIT_NOT_REACHED);
        assertTrue(System.nanoTime() - began < TimeUnit.SECONDS.toNanos(5));
    }

    @Test
    void aWatchOutlivesAChangeOfOnesOwnPassword() throws Exception {
        try (EventStream<FolderEvent> events = client.watch(inbox.getFolderId(), WatchOptions.withSnapshot())) {
            assertTrue(events.next().fresh());
            client.changePassword(PASSWORD, "carol-demo-2");
            try {
                Thread.sleep(500); // for the end of the old session to be told
                long id = append(message(100));
                FolderEvent event = events.next();
                while (!event.changes().getMessageIdsList().contains(id)) {
                    assertFalse(event.fresh());
                    event = events.next();
                }
            } finally {
                client.changePassword("carol-demo-2", PASSWORD);
            }
        }
    }

    @Test
    void aMailboxIsWatchedUntilTheSessionEnds() throws Exception {
        EventStream<MailboxEvent> events = client.watchMailbox(0);
        MailboxEvent told = null;
        for (int i = 0; told == null && i < 30; i++) {
            append(message(100)); // the first may come before the watch
            told = events.poll(Duration.ofMillis(300));
        }
        assertNotNull(told);
        assertTrue(told.changeNumber() > inbox.getChangeNumber());
        client.logOff();
        RestanteException over = assertThrows(RestanteException.class, () -> {
            while (events.hasNext()) {
                events.next();
            }
        });
        assertEquals(ErrorReason.ERROR_REASON_SESSION_REVOKED, over.reason());
        assertEquals(over.reason(), client.ended().get(5, TimeUnit.SECONDS).reason());
        assertFalse(events.hasNext());
    }

    @Test
    void closingAStreamEndsTheLoopOfAnotherThread() throws Exception {
        EventStream<FolderEvent> events = client.watch(inbox.getFolderId(), WatchOptions.fromNow());
        AtomicReference<Throwable> failure = new AtomicReference<>();
        Thread reader = new Thread(() -> events.forEach(event -> {}));
        reader.setUncaughtExceptionHandler((thread, thrown) -> failure.set(thrown));
        reader.start();
        Thread.sleep(300);
        events.close();
        reader.join(5_000);
        assertFalse(reader.isAlive());
        assertEquals(null, failure.get());
    }

    @Test
    void aJobIsWatchedToItsEnd() throws Exception {
        RestanteConfig config = RestanteConfig.newBuilder(System.getProperty("restante.target"))
                .trust(Path.of(System.getProperty("restante.ca")))
                .build();
        WatchJobRequest request;
        Job last = null;
        try (RestanteClient admin = RestanteClient.logOn(config, "alice@example.test", "alice-demo")) {
            Job begun = admin.call(
                            AdminServiceGrpc.getCheckStoreMethod(),
                            CheckStoreRequest.newBuilder().setDigests(true).build())
                    .getJob();
            request = WatchJobRequest.newBuilder().setJobId(begun.getJobId()).build();
            for (WatchJobResponse step : admin.watchJob(request)) {
                last = step.getJob();
            }
        }
        assertNotNull(last);
        assertEquals(JobState.JOB_STATE_SUCCEEDED, last.getState());
        RestanteException refused = assertThrows(
                RestanteException.class, () -> client.watchJob(request).next());
        assertEquals(ErrorReason.ERROR_REASON_PERMISSION_DENIED, refused.reason());
    }
}
