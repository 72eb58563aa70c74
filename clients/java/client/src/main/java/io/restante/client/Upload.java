package io.restante.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.Status;
import io.restante.v1.ContentServiceGrpc;
import io.restante.v1.ErrorReason;
import io.restante.v1.UploadContentRequest;
import io.restante.v1.UploadContentResponse;
import io.restante.v1.UploadKind;
import java.io.IOException;
import java.io.InputStream;
import java.util.concurrent.TimeUnit;

/** UploadContent, begun anew when the connection breaks, as long as the client's timeout brings it further. */
final class Upload {
    private static final int CHUNK_OCTETS = 256 << 10;

    private final Core core;
    private final UploadKind kind;
    private final UploadSource source;
    private long furthest; // octets that any attempt has sent
    private long last; // when it came so far

    Upload(Core core, UploadKind kind, UploadSource source) {
        this.core = core;
        this.kind = kind;
        this.source = source;
    }

    UploadContentResponse run() throws IOException {
        Retry retry = Retry.ofCall();
        last = System.nanoTime();
        while (true) {
            ByteString token = core.session.token();
            try {
                return new Attempt(token).run();
            } catch (RestanteException failure) {
                if (failure.reason() == ErrorReason.ERROR_REASON_SESSION_EXPIRED && retry.renewal()) {
                    core.session.renew(token, Core.deadline(core.config.timeout()));
                    continue;
                }
                long delay = retry.delay(failure);
                long patience = core.config.timeout().toNanos();
                if (!failure.isTemporary() || System.nanoTime() + delay - last > patience) {
                    throw failure;
                }
                pause(delay);
            } catch (InterruptedException interrupted) {
                throw RestanteException.interrupted(interrupted);
            }
        }
    }

    private static void pause(long nanoseconds) {
        try {
            TimeUnit.NANOSECONDS.sleep(nanoseconds);
        } catch (InterruptedException interrupted) {
            throw RestanteException.interrupted(interrupted);
        }
    }

    private final class Attempt extends ClientCall.Listener<UploadContentResponse> {
        private final ClientCall<UploadContentRequest, UploadContentResponse> call;
        private UploadContentResponse answer; // under this object's lock, as what follows
        private Status status; // null: it goes on
        private Metadata trailers;

        private Attempt(ByteString token) {
            CallOptions options = CallOptions.DEFAULT.withExecutor(Runnable::run);
            call = core.open(ContentServiceGrpc.getUploadContentMethod(), options, token);
        }

        private UploadContentResponse run() throws IOException, InterruptedException {
            call.start(this, new Metadata());
            call.request(2);
            boolean finished = false;
            try (InputStream octets = source.open()) {
                send(octets);
                call.halfClose();
                UploadContentResponse answered = answer();
                finished = true;
                return answered;
            } finally {
                if (!finished) {
                    call.cancel("The upload was given up.", null); // harmless where it has ended
                }
            }
        }

        /** Sends until the end, or until the server has answered, which says why. */
        private void send(InputStream octets) throws IOException, InterruptedException {
            byte[] chunk = octets.readNBytes(CHUNK_OCTETS);
            UploadContentRequest.Builder request = UploadContentRequest.newBuilder().setKind(kind);
            long done = 0;
            do {
                if (!isFree()) {
                    return;
                }
                call.sendMessage(request.setOctets(UnsafeByteOperations.unsafeWrap(chunk)).build());
                request = UploadContentRequest.newBuilder();
                done += chunk.length;
                if (done > furthest) {
                    furthest = done;
                    last = System.nanoTime();
                }
                chunk = octets.readNBytes(CHUNK_OCTETS);
            } while (chunk.length > 0);
        }

        private synchronized boolean isFree() throws InterruptedException {
            while (status == null && !call.isReady()) {
                wait();
            }
            return status == null;
        }

        private synchronized UploadContentResponse answer() throws InterruptedException {
            while (status == null) {
                wait();
            }
            if (!status.isOk()) {
                throw RestanteException.of(status, trailers);
            }
            return answer;
        }

        @Override
        public synchronized void onReady() {
            notifyAll();
        }

        @Override
        public synchronized void onMessage(UploadContentResponse message) {
            answer = message;
        }

        @Override
        public synchronized void onClose(Status ended, Metadata last) {
            status = ended;
            trailers = last;
            notifyAll();
        }
    }
}
