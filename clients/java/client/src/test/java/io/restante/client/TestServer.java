package io.restante.client;

import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;

import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.ManagedChannel;
import io.grpc.Server;
import io.grpc.inprocess.InProcessChannelBuilder;
import io.grpc.inprocess.InProcessServerBuilder;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import io.restante.v1.BatchServiceGrpc;
import io.restante.v1.ExecuteRequest;
import io.restante.v1.ExecuteResponse;
import io.restante.v1.Folder;
import io.restante.v1.GetFolderResponse;
import io.restante.v1.Operation;
import io.restante.v1.OperationResult;
import java.io.IOException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** A server of Execute streams in this process: the test answers. */
final class TestServer implements AutoCloseable {
    private static final AtomicInteger NUMBER = new AtomicInteger();

    final BlockingQueue<Stream> streams = new LinkedBlockingQueue<>();
    final AtomicInteger connections = new AtomicInteger();
    volatile boolean held; // streams take no message until they are told to
    volatile io.grpc.Status refusal; // ends streams at once

    private final String name = "test-" + NUMBER.incrementAndGet();
    private final Server server;

    TestServer() throws IOException {
        server = InProcessServerBuilder.forName(name).addService(new Batches()).build().start();
    }

    ManagedChannel open() {
        connections.incrementAndGet();
        return InProcessChannelBuilder.forName(name).build();
    }

    Stream stream() throws InterruptedException {
        Stream opened = streams.poll(5, TimeUnit.SECONDS);
        assertNotNull(opened, "no stream came");
        return opened;
    }

    @Override
    public void close() {
        server.shutdownNow();
    }

    private final class Batches extends BatchServiceGrpc.BatchServiceImplBase {
        @Override
        public StreamObserver<ExecuteRequest> execute(StreamObserver<ExecuteResponse> answers) {
            Stream opened = new Stream((ServerCallStreamObserver<ExecuteResponse>) answers);
            if (refusal != null) {
                answers.onError(refusal.asException());
            } else {
                streams.add(opened);
            }
            return opened;
        }
    }

    /** One Execute stream. */
    final class Stream implements StreamObserver<ExecuteRequest> {
        final BlockingQueue<ExecuteRequest> requests = new LinkedBlockingQueue<>();
        final BlockingQueue<String> ends = new LinkedBlockingQueue<>();
        private final ServerCallStreamObserver<ExecuteResponse> answers;

        private Stream(ServerCallStreamObserver<ExecuteResponse> answers) {
            this.answers = answers;
            answers.setOnCancelHandler(() -> ends.add("cancelled"));
            if (held) {
                answers.disableAutoRequest();
            }
        }

        /** Takes so many messages more. */
        void take(int messages) {
            answers.request(messages);
        }

        ExecuteRequest next() throws InterruptedException {
            ExecuteRequest request = requests.poll(5, TimeUnit.SECONDS);
            assertNotNull(request, "no request came");
            return request;
        }

        /** The next operation, where messages hold one each. */
        Operation operation() throws InterruptedException {
            return next().getOperations(0);
        }

        void quiet() throws InterruptedException {
            assertNull(requests.poll(80, TimeUnit.MILLISECONDS), "a request came");
        }

        String end() throws InterruptedException {
            return ends.poll(5, TimeUnit.SECONDS);
        }

        synchronized void answer(Operation... operations) {
            ExecuteResponse.Builder response = ExecuteResponse.newBuilder();
            for (Operation operation : operations) {
                response.addResults(OperationResult.newBuilder()
                        .setOperationId(operation.getOperationId())
                        .setGetFolder(GetFolderResponse.newBuilder()
                                .setFolder(Folder.newBuilder().setFolderId(operation.getGetFolder().getFolderId()))));
            }
            answers.onNext(response.build());
        }

        synchronized void answer(OperationResult.Builder result, Operation operation) {
            result.setOperationId(operation.getOperationId());
            answers.onNext(ExecuteResponse.newBuilder().addResults(result).build());
        }

        synchronized void refuse(Operation operation, Status status) {
            answer(OperationResult.newBuilder().setStatus(status), operation);
        }

        synchronized void drain() {
            answers.onNext(ExecuteResponse.newBuilder().setDraining(true).build());
        }

        synchronized void lose(io.grpc.Status status) {
            answers.onError(status.asException());
        }

        @Override
        public void onNext(ExecuteRequest request) {
            requests.add(request);
        }

        @Override
        public void onError(Throwable ended) {
            ends.add("broken");
        }

        @Override
        public void onCompleted() {
            ends.add("complete");
            answers.onCompleted();
        }
    }

    /** A status as the server makes it. */
    static Status status(io.grpc.Status.Code code, String reason, long retryMilliseconds) {
        ErrorInfo info = ErrorInfo.newBuilder()
                .setDomain("restante")
                .setReason(reason)
                .putMetadata("folder_id", "7")
                .build();
        Status.Builder made = Status.newBuilder()
                .setCode(code.value())
                .setMessage("It went wrong.")
                .addDetails(Any.pack(info));
        if (retryMilliseconds > 0) {
            Duration delay = Duration.newBuilder()
                    .setNanos((int) TimeUnit.MILLISECONDS.toNanos(retryMilliseconds))
                    .build();
            made.addDetails(Any.pack(RetryInfo.newBuilder().setRetryDelay(delay).build()));
        }
        return made.build();
    }
}
