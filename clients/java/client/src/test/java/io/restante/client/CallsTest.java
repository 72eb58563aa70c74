package io.restante.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import io.grpc.Context;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.restante.v1.CommitToken;
import io.restante.v1.CreateFolderRequest;
import io.restante.v1.CreateFolderResponse;
import io.restante.v1.ErrorReason;
import io.restante.v1.FolderServiceGrpc;
import io.restante.v1.GetFolderRequest;
import io.restante.v1.GetFolderResponse;
import io.restante.v1.ListFoldersRequest;
import io.restante.v1.ListFoldersResponse;
import io.restante.v1.Operation;
import io.restante.v1.OperationResult;
import io.restante.v1.RenewSessionResponse;
import io.restante.v1.Session;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** What a logical call adds to its attempts. */
@Timeout(30)
class CallsTest {
    private static final CommitToken COMMIT =
            CommitToken.newBuilder().setMailboxId(0).setEpoch(1).setChangeNumber(9).build();

    private TestServer server;
    private Core core;
    private RestanteClient client;

    @BeforeEach
    void begin() throws Exception {
        server = new TestServer();
        core = new Core(RestanteConfig.newBuilder("test").build(), server::open);
        client = new RestanteClient(core);
    }

    @AfterEach
    void end() {
        client.close();
        server.close();
    }

    private static <T> CompletableFuture<T> inBackground(Supplier<T> work) {
        return CompletableFuture.supplyAsync(work, task -> new Thread(task).start());
    }

    private CompletableFuture<GetFolderResponse> getFolder() {
        return inBackground(() ->
                client.call(FolderServiceGrpc.getGetFolderMethod(), GetFolderRequest.newBuilder().setFolderId(7).build()));
    }

    private static RestanteException failure(CompletableFuture<?> future) {
        return RestanteException.of(assertThrows(
                CompletionException.class, () -> future.orTimeout(5, TimeUnit.SECONDS).join()));
    }

    @Test
    void aLogicalCallHasOneRequestIdAndLeavesTheRequestAsItIs() throws Exception {
        CreateFolderRequest request = CreateFolderRequest.newBuilder().addPath("Work").build();
        var made = inBackground(() -> client.call(FolderServiceGrpc.getCreateFolderMethod(), request));
        TestServer.Stream stream = server.stream();
        Operation first = stream.operation();
        assertEquals(16, first.getCreateFolder().getRequestId().size());
        stream.refuse(first, TestServer.status(Status.Code.UNAVAILABLE, "STORE_BUSY", 0));
        Operation second = stream.operation();
        assertEquals(first.getCreateFolder(), second.getCreateFolder());
        stream.answer(OperationResult.newBuilder().setCreateFolder(CreateFolderResponse.getDefaultInstance()), second);
        made.get(5, TimeUnit.SECONDS);
        assertTrue(request.getRequestId().isEmpty());
        inBackground(() -> client.call(FolderServiceGrpc.getCreateFolderMethod(), request));
        assertNotEquals(
                first.getCreateFolder().getRequestId(), stream.operation().getCreateFolder().getRequestId());
    }

    @Test
    void anotherAttemptWaitsAsLongAsTheServerAsks() throws Exception {
        var asked = getFolder();
        TestServer.Stream stream = server.stream();
        stream.refuse(
                stream.operation(), TestServer.status(Status.Code.RESOURCE_EXHAUSTED, "TOO_MANY_OPERATIONS", 400));
        long began = System.nanoTime();
        Operation second = stream.operation();
        assertTrue(System.nanoTime() - began >= TimeUnit.MILLISECONDS.toNanos(350));
        stream.answer(second);
        assertEquals(7, asked.get(5, TimeUnit.SECONDS).getFolder().getFolderId());
    }

    @Test
    void whatIsNoUseIsNotRepeated() throws Exception {
        var asked = getFolder();
        TestServer.Stream stream = server.stream();
        stream.refuse(stream.operation(), TestServer.status(Status.Code.NOT_FOUND, "FOLDER_NOT_FOUND", 0));
        RestanteException failure = failure(asked);
        assertEquals(ErrorReason.ERROR_REASON_FOLDER_NOT_FOUND, failure.reason());
        assertEquals("7", failure.metadata().get("folder_id"));
        stream.quiet();
    }

    @Test
    void aDelayBeyondTheDeadlineIsNotWaitedFor() throws Exception {
        var asked = inBackground(() -> client.call(
                FolderServiceGrpc.getGetFolderMethod(), GetFolderRequest.getDefaultInstance(), Duration.ofMillis(300)));
        TestServer.Stream stream = server.stream();
        stream.refuse(stream.operation(), TestServer.status(Status.Code.UNAVAILABLE, "STORE_BUSY", 900));
        RestanteException failure = failure(asked);
        assertEquals(ErrorReason.ERROR_REASON_STORE_BUSY, failure.reason());
        assertEquals(Duration.ofMillis(900), failure.retryDelay().orElseThrow());
    }

    @Test
    void readsSeeWhatWasWrittenUntilTheStoreIsRestored() throws Exception {
        core.remember(COMMIT);
        core.remember(COMMIT.toBuilder().setChangeNumber(3).build()); // an older one changes nothing
        var asked = inBackground(
                () -> client.call(FolderServiceGrpc.getListFoldersMethod(), ListFoldersRequest.getDefaultInstance()));
        TestServer.Stream stream = server.stream();
        Operation first = stream.operation();
        assertEquals(COMMIT, first.getListFolders().getMinCommit());
        stream.refuse(first, TestServer.status(Status.Code.FAILED_PRECONDITION, "EPOCH_CHANGED", 0));
        Operation second = stream.operation();
        assertFalse(second.getListFolders().hasMinCommit());
        stream.answer(OperationResult.newBuilder().setListFolders(ListFoldersResponse.getDefaultInstance()), second);
        asked.get(5, TimeUnit.SECONDS);
        assertTrue(client.minCommit(0).isEmpty());
    }

    @Test
    void anExpiredSessionIsRenewedOnce() throws Exception {
        var asked = getFolder();
        TestServer.Stream stream = server.stream();
        stream.refuse(stream.operation(), TestServer.status(Status.Code.UNAUTHENTICATED, "SESSION_EXPIRED", 0));
        Operation renewal = stream.operation();
        assertTrue(renewal.hasRenewSession());
        ByteString fresh = ByteString.copyFromUtf8("fresh");
        stream.answer(
                OperationResult.newBuilder()
                        .setRenewSession(RenewSessionResponse.newBuilder()
                                .setSession(Session.newBuilder().setSessionToken(fresh))),
                renewal);
        Operation again = stream.operation();
        assertEquals(fresh, again.getSessionToken());
        stream.refuse(again, TestServer.status(Status.Code.UNAUTHENTICATED, "SESSION_EXPIRED", 0));
        assertEquals(ErrorReason.ERROR_REASON_SESSION_EXPIRED, failure(asked).reason());
    }

    @Test
    void pagesFollowTheirTokens() throws Exception {
        var pages = inBackground(() -> {
            List<ListFoldersResponse> found = new ArrayList<>();
            client.pages(FolderServiceGrpc.getListFoldersMethod(), ListFoldersRequest.getDefaultInstance())
                    .forEach(found::add);
            return found;
        });
        TestServer.Stream stream = server.stream();
        Operation first = stream.operation();
        assertEquals("", first.getListFolders().getPageToken());
        stream.answer(
                OperationResult.newBuilder()
                        .setListFolders(ListFoldersResponse.newBuilder().setNextPageToken("more")),
                first);
        Operation last = stream.operation();
        assertEquals("more", last.getListFolders().getPageToken());
        stream.answer(OperationResult.newBuilder().setListFolders(ListFoldersResponse.getDefaultInstance()), last);
        assertEquals(2, pages.get(5, TimeUnit.SECONDS).size());
    }

    @Test
    void anInterruptedThreadCancelsItsCallAndStaysInterrupted() throws Exception {
        AtomicReference<RestanteException> thrown = new AtomicReference<>();
        AtomicReference<Boolean> interrupted = new AtomicReference<>();
        Thread caller = new Thread(() -> {
            try {
                client.call(FolderServiceGrpc.getGetFolderMethod(), GetFolderRequest.getDefaultInstance());
            } catch (RestanteException failure) {
                thrown.set(failure);
                interrupted.set(Thread.currentThread().isInterrupted());
            }
        });
        caller.start();
        TestServer.Stream stream = server.stream();
        Operation sent = stream.operation();
        caller.interrupt();
        caller.join(5_000);
        assertEquals(Status.Code.CANCELLED, thrown.get().code());
        assertEquals(true, interrupted.get());
        assertEquals(List.of(sent.getOperationId()), stream.next().getCancelOperationIdsList());
    }

    @Test
    void aCancelledFutureAndAContextCancelTheirCalls() throws Exception {
        CompletableFuture<GetFolderResponse> future =
                client.callAsync(FolderServiceGrpc.getGetFolderMethod(), GetFolderRequest.getDefaultInstance());
        TestServer.Stream stream = server.stream();
        Operation first = stream.operation();
        assertTrue(future.cancel(true));
        assertEquals(List.of(first.getOperationId()), stream.next().getCancelOperationIdsList());

        Context.CancellableContext context = Context.current().withCancellation();
        var asked = inBackground(() -> {
            Context before = context.attach();
            try {
                return client.call(FolderServiceGrpc.getGetFolderMethod(), GetFolderRequest.getDefaultInstance());
            } finally {
                context.detach(before);
            }
        });
        Operation second = stream.operation();
        context.cancel(null);
        assertEquals(Status.Code.CANCELLED, failure(asked).code());
        assertEquals(List.of(second.getOperationId()), stream.next().getCancelOperationIdsList());
    }

    @Test
    void theDeadlineOfAContextIsTheCalls() throws Exception {
        var asked = inBackground(() -> {
            Context.CancellableContext context =
                    Context.current().withDeadlineAfter(200, TimeUnit.MILLISECONDS, core.timer);
            Context before = context.attach();
            try {
                return client.call(FolderServiceGrpc.getGetFolderMethod(), GetFolderRequest.getDefaultInstance());
            } finally {
                context.detach(before);
                context.cancel(null);
            }
        });
        Operation sent = server.stream().operation();
        assertTrue(sent.getTimeoutMilliseconds() <= 200);
        assertEquals(Status.Code.DEADLINE_EXCEEDED, failure(asked).code());
    }

    @Test
    void aGeneratedStubOnTheChannelIsLookedAfter() throws Exception {
        var stub = FolderServiceGrpc.newBlockingStub(client.channel());
        var asked = inBackground(() -> stub.createFolder(CreateFolderRequest.getDefaultInstance()));
        TestServer.Stream stream = server.stream();
        Operation first = stream.operation();
        assertEquals(16, first.getCreateFolder().getRequestId().size());
        stream.refuse(first, TestServer.status(Status.Code.UNAVAILABLE, "STORE_BUSY", 0));
        stream.refuse(stream.operation(), TestServer.status(Status.Code.NOT_FOUND, "FOLDER_NOT_FOUND", 0));
        CompletionException thrown =
                assertThrows(CompletionException.class, () -> asked.orTimeout(5, TimeUnit.SECONDS).join());
        StatusRuntimeException refused = assertInstanceOf(StatusRuntimeException.class, thrown.getCause());
        assertEquals(Status.Code.NOT_FOUND, refused.getStatus().getCode());
        assertEquals(
                ErrorReason.ERROR_REASON_FOLDER_NOT_FOUND, RestanteException.of(refused).reason());
    }

    @Test
    void anOperationOfExecuteGoesAsItIsAndOnce() throws Exception {
        core.remember(COMMIT);
        var future = client.execute(
                FolderServiceGrpc.getListFoldersMethod(),
                ListFoldersRequest.getDefaultInstance(),
                new ExecuteOptions(Duration.ofSeconds(5), false));
        TestServer.Stream stream = server.stream();
        Operation sent = stream.operation();
        assertEquals(ListFoldersRequest.getDefaultInstance(), sent.getListFolders());
        assertFalse(sent.getIndependent());
        stream.refuse(sent, TestServer.status(Status.Code.UNAVAILABLE, "STORE_BUSY", 0));
        assertEquals(ErrorReason.ERROR_REASON_STORE_BUSY, failure(future).reason());
        stream.quiet();
    }

    @Test
    void closingEndsCallsThatWaitToBeRepeated() throws Exception {
        var asked = getFolder();
        TestServer.Stream stream = server.stream();
        stream.refuse(stream.operation(), TestServer.status(Status.Code.UNAVAILABLE, "STORE_BUSY", 900));
        stream.quiet();
        long began = System.nanoTime();
        client.close();
        assertEquals(Status.Code.CANCELLED, failure(asked).code());
        assertTrue(System.nanoTime() - began < TimeUnit.MILLISECONDS.toNanos(500));
    }
}
