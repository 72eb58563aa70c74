package io.restante.bench;

import com.google.protobuf.ByteString;
import io.grpc.Channel;
import io.grpc.stub.BlockingClientCall;
import io.restante.client.RestanteException;
import io.restante.v1.BatchServiceGrpc;
import io.restante.v1.ExecuteRequest;
import io.restante.v1.ExecuteResponse;
import io.restante.v1.OperationResult;

/** The load `execute` by the generated stub: one message with all that waits, and its answers. */
final class BareExecute implements Main.Load {
    private static final int TIMEOUT_MILLISECONDS = 30_000;

    private final BlockingClientCall<ExecuteRequest, ExecuteResponse> stream;
    private final ByteString token;
    private final Main.Turns turns;
    private long lastId;

    BareExecute(Channel channel, ByteString token, Main.Turns turns) {
        this.token = token;
        this.turns = turns;
        stream = BatchServiceGrpc.newBlockingV2Stub(channel).execute();
    }

    @Override
    public int read() throws Exception {
        ExecuteRequest.Builder request = ExecuteRequest.newBuilder();
        for (int i = 0; i < Main.WAITING_OF_EXECUTE; i++) {
            request.addOperationsBuilder()
                    .setOperationId(++lastId)
                    .setSessionToken(token)
                    .setTimeoutMilliseconds(TIMEOUT_MILLISECONDS)
                    .setIndependent(true)
                    .setBatchGetMessages(turns.request(1));
        }
        stream.write(request.build());
        int messages = 0;
        for (int answered = 0; answered < Main.WAITING_OF_EXECUTE; ) {
            for (OperationResult result : stream.read().getResultsList()) {
                if (result.hasStatus()) {
                    throw RestanteException.of(result.getStatus());
                }
                messages += result.getBatchGetMessages().getRows().getMessageIdsCount();
                answered++;
            }
        }
        return messages;
    }
}
