package io.restante.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import com.google.protobuf.Message;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.restante.v1.AuthenticateRequest;
import io.restante.v1.ChangePasswordRequest;
import io.restante.v1.ExecuteRequest;
import io.restante.v1.FolderServiceGrpc;
import io.restante.v1.GetFolderRequest;
import io.restante.v1.GetFolderResponse;
import io.restante.v1.LogoffResponse;
import io.restante.v1.Operation;
import io.restante.v1.OperationResult;
import io.restante.v1.SessionServiceGrpc;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Executor;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Bounds, order and repetitions of the Execute stream, against a server in this process that the test plays. */
@Timeout(30)
class MultiplexerTest {
    private static final Identity ALICE = () -> ByteString.copyFromUtf8("alice");

    private final ScheduledExecutorService timer = Executors.newScheduledThreadPool(1);
    private final Executor executor = Executors.newCachedThreadPool();
    private TestServer server;
    private Link link;
    private Multiplexer multiplexer;

    @BeforeEach
    void begin() throws Exception {
        server = new TestServer();
        link = new Link(server::open, timer);
        patience(Duration.ofSeconds(5));
    }

    @AfterEach
    void end() {
        multiplexer.close();
        link.close();
        server.close();
        timer.shutdownNow();
    }

    private void patience(Duration patience) {
        multiplexer = new Multiplexer(link, timer, executor, patience);
    }

    private record Started(PendingOperation operation, CompletableFuture<Message> future) {
        long folder() {
            return ((GetFolderResponse) future.orTimeout(5, TimeUnit.SECONDS).join()).getFolder().getFolderId();
        }

        RestanteException failure() {
            CompletionException thrown = assertThrows(
                    CompletionException.class, () -> future.orTimeout(5, TimeUnit.SECONDS).join());
            return RestanteException.of(thrown);
        }
    }

    private Started start(MethodDescriptor<?, ?> method, Message request, Identity who, boolean independent, Duration in) {
        CompletableFuture<Message> future = new CompletableFuture<>();
        PendingOperation operation = new PendingOperation(
                MethodFacts.of(method), request, who, System.nanoTime() + in.toNanos(), independent, false,
                (answer, failure) -> {
                    if (failure != null) {
                        future.completeExceptionally(failure);
                    } else {
                        future.complete(answer);
                    }
                });
        multiplexer.start(operation);
        return new Started(operation, future);
    }

    /** An operation of GetFolder, whose folder_id tells it apart. */
    private Started start(Identity who, long folder, boolean independent) {
        GetFolderRequest request = GetFolderRequest.newBuilder().setFolderId(folder).build();
        return start(FolderServiceGrpc.getGetFolderMethod(), request, who, independent, Duration.ofSeconds(30));
    }

    private List<Started> startAll(Identity who, int count, boolean independent) {
        return IntStream.range(0, count).mapToObj(folder -> start(who, folder, independent)).toList();
    }

    private static List<Long> folders(List<Operation> operations) {
        return operations.stream().map(each -> each.getGetFolder().getFolderId()).toList();
    }

    /** The next so many operations, from as many messages as they come in. */
    private static List<Operation> operations(TestServer.Stream stream, int count) throws InterruptedException {
        List<Operation> found = new ArrayList<>();
        while (found.size() < count) {
            found.addAll(stream.next().getOperationsList());
        }
        assertEquals(count, found.size());
        return found;
    }

    @Test
    void anAnswerReachesWhoAsked() throws Exception {
        Started one = start(ALICE, 1, true);
        TestServer.Stream stream = server.stream();
        Operation first = stream.operation();
        Started two = start(ALICE, 2, true);
        Operation second = stream.operation();
        assertEquals(ByteString.copyFromUtf8("alice"), first.getSessionToken());
        assertTrue(first.getIndependent());
        assertTrue(first.getTimeoutMilliseconds() > 29_000 && first.getTimeoutMilliseconds() <= 30_000);
        stream.answer(second);
        assertEquals(2, two.folder());
        assertFalse(one.future.isDone());
        stream.answer(first);
        assertEquals(1, one.folder());
    }

    @Test
    void aMessageHoldsAtMost256Operations() throws Exception {
        server.held = true;
        startAll(Identity.NOBODY, 600, true);
        TestServer.Stream stream = server.stream();
        stream.take(3);
        assertEquals(256, stream.next().getOperationsCount());
        assertEquals(256, stream.next().getOperationsCount());
        assertEquals(88, stream.next().getOperationsCount());
    }

    @Test
    void aMessageHoldsAtMost1MiB() throws Exception {
        server.held = true;
        GetFolderRequest large =
                GetFolderRequest.newBuilder().addPath("x".repeat(300 << 10)).build();
        for (int i = 0; i < 7; i++) {
            start(FolderServiceGrpc.getGetFolderMethod(), large, ALICE, true, Duration.ofSeconds(30));
        }
        TestServer.Stream stream = server.stream();
        stream.take(3);
        for (int expected : List.of(3, 3, 1)) {
            ExecuteRequest request = stream.next();
            assertEquals(expected, request.getOperationsCount());
            assertTrue(request.getSerializedSize() <= 1 << 20);
        }
    }

    @Test
    void anOperationAbove1MiBIsRefusedAndHurtsNoOther() throws Exception {
        GetFolderRequest huge =
                GetFolderRequest.newBuilder().addPath("x".repeat(1 << 20)).build();
        Started refused = start(FolderServiceGrpc.getGetFolderMethod(), huge, ALICE, true, Duration.ofSeconds(30));
        assertEquals(Status.Code.RESOURCE_EXHAUSTED, refused.failure().code());
        Started other = start(ALICE, 3, true);
        TestServer.Stream stream = server.stream();
        stream.answer(stream.operation());
        assertEquals(3, other.folder());
    }

    @Test
    void aStreamHasAtMost1000InFlight() throws Exception {
        startAll(Identity.NOBODY, 1_100, true);
        TestServer.Stream stream = server.stream();
        List<Operation> sent = operations(stream, 1_000);
        stream.quiet();
        stream.answer(sent.get(0), sent.get(1));
        operations(stream, 2);
        stream.quiet();
    }

    @Test
    void aSessionHasAtMost64InFlightAndKeepsItsOrder() throws Exception {
        startAll(ALICE, 100, false);
        TestServer.Stream stream = server.stream();
        List<Operation> sent = operations(stream, 64);
        stream.quiet();
        Started other = start(Identity.NOBODY, 1_000, true); // others do not wait for it
        stream.answer(stream.operation());
        assertEquals(1_000, other.folder());
        stream.answer(sent.toArray(new Operation[0]));
        List<Operation> all = new ArrayList<>(sent);
        all.addAll(operations(stream, 36));
        assertEquals(LongStream.range(0, 100).boxed().toList(), folders(all));
    }

    /** Has a stream drain, and returns when the client knows. */
    private void drained(TestServer.Stream stream) throws Exception {
        Started witness = start(ALICE, 99, true);
        Operation last = stream.operation();
        stream.drain();
        stream.answer(last);
        assertEquals(99, witness.folder());
    }

    @Test
    void aDrainingStreamFinishesAndNewOperationsGoByAFreshConnection() throws Exception {
        Started old = start(ALICE, 1, true);
        TestServer.Stream draining = server.stream();
        Operation first = draining.operation();
        drained(draining);
        Started fresh = start(ALICE, 2, true);
        TestServer.Stream next = server.stream();
        next.answer(next.operation());
        assertEquals(2, fresh.folder());
        assertEquals(2, server.connections.get());
        assertFalse(old.future.isDone());
        draining.answer(first);
        assertEquals(1, old.folder());
        assertEquals("complete", draining.end());
    }

    @Test
    void orderHoldsFromOneStreamToTheNext() throws Exception {
        start(ALICE, 1, false);
        TestServer.Stream draining = server.stream();
        Operation first = draining.operation();
        drained(draining);
        Started second = start(ALICE, 2, false);
        Started independent = start(ALICE, 3, true);
        TestServer.Stream next = server.stream();
        next.quiet(); // the independent one waits its turn behind the other
        draining.answer(first);
        next.answer(operations(next, 2).toArray(new Operation[0]));
        assertEquals(2, second.folder());
        assertEquals(3, independent.folder());
    }

    @Test
    void orderHoldsFromOneTokenToTheNext() throws Exception {
        ByteString[] token = {ByteString.copyFromUtf8("old")};
        Identity renewed = () -> token[0];
        start(renewed, 1, false);
        TestServer.Stream stream = server.stream();
        Operation first = stream.operation();
        token[0] = ByteString.copyFromUtf8("new");
        start(renewed, 2, false);
        stream.quiet();
        stream.answer(first);
        assertEquals(ByteString.copyFromUtf8("new"), stream.operation().getSessionToken());
    }

    @Test
    void whatALostStreamDidNotAnswerIsSentAgainInOrder() throws Exception {
        List<Started> all = startAll(ALICE, 70, false);
        TestServer.Stream lost = server.stream();
        List<Operation> sent = operations(lost, 64);
        lost.answer(sent.get(0));
        assertEquals(0, all.get(0).folder());
        lost.lose(Status.UNAVAILABLE);
        TestServer.Stream next = server.stream();
        List<Operation> again = operations(next, 64);
        next.answer(again.toArray(new Operation[0]));
        again = new ArrayList<>(again);
        again.addAll(operations(next, 5));
        assertEquals(LongStream.range(1, 70).boxed().toList(), folders(again));
    }

    @Test
    void whatIsGoodOnceIsNotSentAgain() throws Exception {
        AuthenticateRequest step = AuthenticateRequest.newBuilder()
                .setExchange(ByteString.copyFromUtf8("second step"))
                .build();
        Started later = start(SessionServiceGrpc.getAuthenticateMethod(), step, Identity.NOBODY, true, Duration.ofSeconds(30));
        Started change = start(
                SessionServiceGrpc.getChangePasswordMethod(),
                ChangePasswordRequest.getDefaultInstance(),
                ALICE,
                true,
                Duration.ofSeconds(30));
        Started first = start(
                SessionServiceGrpc.getAuthenticateMethod(),
                AuthenticateRequest.getDefaultInstance(),
                Identity.NOBODY,
                true,
                Duration.ofSeconds(30));
        TestServer.Stream lost = server.stream();
        operations(lost, 3);
        lost.lose(Status.UNAVAILABLE);
        assertEquals(Status.Code.UNAVAILABLE, later.failure().code());
        assertEquals(Status.Code.UNAVAILABLE, change.failure().code());
        assertTrue(server.stream().operation().hasAuthenticate());
        assertFalse(first.future.isDone());
    }

    @Test
    void aServerThatCannotBeReachedFailsOperationsWhenPatienceEnds() throws Exception {
        patience(Duration.ofMillis(200));
        server.refusal = Status.UNAVAILABLE;
        long began = System.nanoTime();
        assertEquals(Status.Code.UNAVAILABLE, start(ALICE, 1, true).failure().code());
        assertTrue(System.nanoTime() - began >= TimeUnit.MILLISECONDS.toNanos(200));
    }

    @Test
    void aStreamThatIsRefusedForGoodFailsWhatWaits() throws Exception {
        server.refusal = Status.PERMISSION_DENIED;
        assertEquals(Status.Code.PERMISSION_DENIED, start(ALICE, 1, true).failure().code());
    }

    @Test
    void anAbandonedOperationIsGivenUpAndKeepsItsPlaceUntilItIsAnswered() throws Exception {
        List<Started> all = startAll(ALICE, 65, true);
        TestServer.Stream stream = server.stream();
        List<Operation> sent = operations(stream, 64);
        multiplexer.abandon(all.get(0).operation, RestanteException.cancelled("enough"));
        assertEquals(Status.Code.CANCELLED, all.get(0).failure().code());
        ExecuteRequest request = stream.next();
        assertEquals(List.of(sent.get(0).getOperationId()), request.getCancelOperationIdsList());
        assertEquals(0, request.getOperationsCount());
        stream.quiet();
        stream.answer(sent.get(0));
        assertEquals(64, stream.operation().getGetFolder().getFolderId());
    }

    @Test
    void anAbandonedOperationThatWaitsIsNeverSent() throws Exception {
        List<Started> all = startAll(ALICE, 66, true);
        TestServer.Stream stream = server.stream();
        List<Operation> sent = operations(stream, 64);
        multiplexer.abandon(all.get(64).operation, RestanteException.cancelled("enough"));
        assertEquals(Status.Code.CANCELLED, all.get(64).failure().code());
        stream.answer(sent.get(0), sent.get(1));
        assertEquals(65, stream.operation().getGetFolder().getFolderId());
        stream.quiet();
    }

    @Test
    void closingFailsWhatIsUnansweredAndEndsTheStream() throws Exception {
        List<Started> all = startAll(ALICE, 65, true);
        TestServer.Stream stream = server.stream();
        operations(stream, 64);
        multiplexer.close();
        all.forEach(each -> assertEquals(Status.Code.CANCELLED, each.failure().code()));
        assertEquals("cancelled", stream.end());
        assertEquals(Status.Code.CANCELLED, start(ALICE, 1, true).failure().code());
        assertNull(server.streams.poll());
    }

    @Test
    void anOperationThatNobodyAnswersEndsByItself() throws Exception {
        Started silent = start(
                FolderServiceGrpc.getGetFolderMethod(),
                GetFolderRequest.getDefaultInstance(),
                ALICE,
                true,
                Duration.ofMillis(50));
        assertEquals(Status.Code.DEADLINE_EXCEEDED, silent.failure().code());
        TestServer.Stream stream = server.stream();
        Operation sent = stream.operation();
        assertEquals(List.of(sent.getOperationId()), stream.next().getCancelOperationIdsList());
    }

    @Test
    void aResultOfAnotherKindIsAFault() throws Exception {
        Started asked = start(ALICE, 1, true);
        TestServer.Stream stream = server.stream();
        stream.answer(
                OperationResult.newBuilder().setLogoff(LogoffResponse.getDefaultInstance()),
                stream.operation());
        assertEquals(Status.Code.INTERNAL, asked.failure().code());
    }
}
