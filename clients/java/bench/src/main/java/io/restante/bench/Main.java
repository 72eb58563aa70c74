package io.restante.bench;

import com.google.gson.JsonObject;
import com.sun.management.OperatingSystemMXBean;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.ManagedChannel;
import io.grpc.stub.MetadataUtils;
import io.restante.client.EventStream;
import io.restante.client.ExecuteOptions;
import io.restante.client.RestanteClient;
import io.restante.client.RestanteConfig;
import io.restante.v1.BatchGetMessagesRequest;
import io.restante.v1.BatchGetMessagesResponse;
import io.restante.v1.FolderRole;
import io.restante.v1.FolderServiceGrpc;
import io.restante.v1.GetFolderRequest;
import io.restante.v1.MessageColumn;
import io.restante.v1.MessageRows;
import io.restante.v1.MessageServiceGrpc;
import io.restante.v1.MessageIdSet;
import io.restante.v1.MessageSet;
import io.restante.v1.QueryMessagesRequest;
import io.restante.v1.QueryMessagesResponse;
import io.restante.v1.Section;
import io.restante.v1.SectionKind;
import io.restante.v1.StreamMessagesRequest;
import io.restante.v1.StreamMessagesResponse;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * Reads mail from a running server, by the SDK or by the bare generated stubs, and prints what a message costs this
 * process: see tests/bench/sdk.py for the loads.
 */
public final class Main {
    static final int WAITING_OF_EXECUTE = 32; // operations that wait together, each for one message
    private static final int BATCH_MESSAGES = 20; // of one BatchGetMessages in the load batch_get
    private static final int STREAMED = 1_000;
    private static final int PAGE = 1_000;
    private static final double WARM_UP_SECONDS = 6; // for what the virtual machine compiles on its way
    private static final ExecuteOptions INDEPENDENT = new ExecuteOptions(Duration.ofSeconds(30), true);
    private static final List<MessageColumn> COLUMNS = List.of(
            MessageColumn.MESSAGE_COLUMN_FLAGS,
            MessageColumn.MESSAGE_COLUMN_SIZE,
            MessageColumn.MESSAGE_COLUMN_SUMMARY);

    /** Reads some messages, and tells how many. */
    interface Load {
        int read() throws Exception;
    }

    private Main() {}

    /**
     * Measures once.
     *
     * @param arguments --target HOST:PORT --ca FILE --user U --password P --seconds N --mode sdk|bare --load
     *     batch_get|execute|stream
     * @throws Exception when anything fails
     */
    public static void main(String[] arguments) throws Exception {
        Map<String, String> given = new HashMap<>();
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            given.put(arguments[i].replaceFirst("^--", ""), arguments[i + 1]);
        }
        RestanteConfig config = RestanteConfig.newBuilder(given.get("target"))
                .trust(Path.of(given.get("ca")))
                .build();
        double seconds = Double.parseDouble(given.getOrDefault("seconds", "5"));
        String mode = given.getOrDefault("mode", "sdk");
        String name = given.getOrDefault("load", "batch_get");
        ManagedChannel bare = config.openChannel();
        try (RestanteClient client = RestanteClient.logOn(config, given.get("user"), given.get("password"))) {
            List<Long> ids = inbox(client);
            if (ids.isEmpty()) {
                throw new IllegalStateException("the Inbox is empty");
            }
            var entries = RestanteConfig.authorization(client.session().getSessionToken());
            Channel authorized = ClientInterceptors.intercept(bare, MetadataUtils.newAttachHeadersInterceptor(entries));
            Load load = chosen(mode + " " + name, client, authorized, new Turns(ids));
            during(load, WARM_UP_SECONDS);
            double cpu = cpuSeconds();
            long began = System.nanoTime();
            long messages = during(load, seconds);
            JsonObject line = new JsonObject();
            line.addProperty("language", "Java");
            line.addProperty("mode", mode);
            line.addProperty("load", name);
            line.addProperty("messages", messages);
            line.addProperty("seconds", (System.nanoTime() - began) / 1e9);
            line.addProperty("cpu_seconds", cpuSeconds() - cpu);
            System.out.println(line);
        } finally {
            bare.shutdownNow();
        }
    }

    private static long during(Load load, double seconds) throws Exception {
        long until = System.nanoTime() + (long) (seconds * TimeUnit.SECONDS.toNanos(1));
        long messages = 0;
        while (System.nanoTime() - until < 0) {
            messages += load.read();
        }
        return messages;
    }

    /** What this process has used. */
    private static double cpuSeconds() {
        return ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class).getProcessCpuTime() / 1e9;
    }

    private static List<Long> inbox(RestanteClient client) {
        long folder = client.call(
                        FolderServiceGrpc.getGetFolderMethod(),
                        GetFolderRequest.newBuilder().setRole(FolderRole.FOLDER_ROLE_INBOX).build())
                .getFolder()
                .getFolderId();
        QueryMessagesRequest request =
                QueryMessagesRequest.newBuilder().setFolderId(folder).setPageSize(PAGE).build();
        List<Long> ids = new ArrayList<>();
        for (QueryMessagesResponse page : client.pages(MessageServiceGrpc.getQueryMessagesMethod(), request)) {
            ids.addAll(page.getRows().getMessageIdsList());
        }
        return ids;
    }

    private static Load chosen(String which, RestanteClient client, Channel bare, Turns turns) {
        var stub = MessageServiceGrpc.newBlockingStub(bare);
        return switch (which) {
            case "sdk batch_get" -> () ->
                    client.call(MessageServiceGrpc.getBatchGetMessagesMethod(), turns.request(BATCH_MESSAGES))
                            .getRows()
                            .getMessageIdsCount();
            case "bare batch_get" -> () ->
                    stub.batchGetMessages(turns.request(BATCH_MESSAGES)).getRows().getMessageIdsCount();
            case "sdk execute" -> () -> execute(client, turns);
            case "bare execute" -> new BareExecute(bare, client.session().getSessionToken(), turns);
            case "sdk stream" -> () -> {
                int messages = 0;
                try (EventStream<MessageRows> batches = client.streamMessages(turns.streamed())) {
                    for (MessageRows batch : batches) {
                        messages += batch.getMessageIdsCount();
                    }
                }
                return messages;
            };
            case "bare stream" -> () -> {
                int messages = 0;
                for (Iterator<StreamMessagesResponse> each = stub.streamMessages(turns.streamed()); each.hasNext(); ) {
                    messages += each.next().getRows().getMessageIdsCount();
                }
                return messages;
            };
            default -> throw new IllegalArgumentException("there is no mode and load " + which);
        };
    }

    private static int execute(RestanteClient client, Turns turns) {
        List<CompletableFuture<BatchGetMessagesResponse>> futures = new ArrayList<>(WAITING_OF_EXECUTE);
        for (int i = 0; i < WAITING_OF_EXECUTE; i++) {
            futures.add(client.execute(MessageServiceGrpc.getBatchGetMessagesMethod(), turns.request(1), INDEPENDENT));
        }
        int messages = 0;
        for (CompletableFuture<BatchGetMessagesResponse> each : futures) {
            messages += each.join().getRows().getMessageIdsCount();
        }
        return messages;
    }

    /** Gives ids, round and round. */
    static final class Turns {
        private final List<Long> ids;
        private int next;

        private Turns(List<Long> ids) {
            this.ids = ids;
        }

        BatchGetMessagesRequest request(int count) {
            MessageIdSet.Builder set = MessageIdSet.newBuilder();
            for (int i = 0; i < Math.min(count, ids.size()); i++) {
                set.addMessageIds(ids.get(next));
                next = (next + 1) % ids.size();
            }
            return BatchGetMessagesRequest.newBuilder()
                    .setMessages(MessageSet.newBuilder().setIds(set))
                    .addAllColumns(COLUMNS)
                    .build();
        }

        StreamMessagesRequest streamed() {
            return StreamMessagesRequest.newBuilder()
                    .setMessages(MessageSet.newBuilder()
                            .setIds(MessageIdSet.newBuilder()
                                    .addAllMessageIds(ids.subList(0, Math.min(ids.size(), STREAMED)))))
                    .addAllColumns(COLUMNS)
                    .addSections(Section.newBuilder().setKind(SectionKind.SECTION_KIND_WHOLE))
                    .build();
        }
    }
}
