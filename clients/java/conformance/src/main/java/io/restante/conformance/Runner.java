package io.restante.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import com.google.protobuf.ByteString;
import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.restante.client.ExecuteOptions;
import io.restante.client.RestanteClient;
import io.restante.client.RestanteConfig;
import io.restante.client.RestanteException;
import io.restante.client.WatchOptions;
import io.restante.v1.BatchServiceGrpc;
import io.restante.v1.ExecuteOnceRequest;
import io.restante.v1.ExecuteOnceResponse;
import io.restante.v1.MessageColumn;
import io.restante.v1.Operation;
import io.restante.v1.OperationResult;
import io.restante.v1.Section;
import io.restante.v1.SyncMailboxRequest;
import io.restante.v1.UploadKind;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/** Does commands. What is no error of the SDK is a fault of this program, and ends it. */
final class Runner implements AutoCloseable {
    private static final long TIMEOUT_MILLISECONDS = 30_000;

    private final RestanteConfig config;
    private final ManagedChannel core; // for bare stubs
    private final ManagedChannel gateways;
    private final ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
    private final Map<String, RestanteClient> clients = new HashMap<>();
    private final Map<String, BackgroundStream> streams = new HashMap<>();
    private final Map<String, Command> commands = Map.ofEntries(
            Map.entry("log_on", this::logOn),
            Map.entry("resume", this::resume),
            Map.entry("session", this::session),
            Map.entry("renew", this::renew),
            Map.entry("change_password", this::changePassword),
            Map.entry("log_off", this::logOff),
            Map.entry("close", this::closeClient),
            Map.entry("rpc", this::rpc),
            Map.entry("call", this::call),
            Map.entry("pages", this::pages),
            Map.entry("execute", this::execute),
            Map.entry("execute_once", this::executeOnce),
            Map.entry("upload", this::upload),
            Map.entry("read", this::read),
            Map.entry("watch", this::watch),
            Map.entry("sync", this::sync),
            Map.entry("next", this::next),
            Map.entry("stop", this::stop));

    private interface Command {
        JsonObject run(JsonObject asked) throws IOException, InterruptedException;
    }

    Runner(JsonObject hello) throws IOException {
        Path ca = Path.of(text(hello, "ca"));
        config = RestanteConfig.newBuilder(text(hello, "target")).trust(ca).build();
        core = config.openChannel();
        gateways = RestanteConfig.newBuilder(text(hello, "gateway_target")).trust(ca).build().openChannel();
    }

    JsonObject answer(JsonObject asked) throws IOException {
        Command command = commands.get(text(asked, "do"));
        if (command == null) {
            return Answers.object("unsupported", new JsonPrimitive("there is no command " + text(asked, "do")));
        }
        try {
            return command.run(asked);
        } catch (RestanteException failure) {
            return Answers.error(failure);
        } catch (StatusRuntimeException failure) { // of a bare stub
            return Answers.error(RestanteException.of(failure));
        } catch (InterruptedException never) {
            throw new IllegalStateException(never);
        }
    }

    @Override
    public void close() {
        try {
            for (BackgroundStream each : streams.values()) {
                each.stop();
            }
        } catch (InterruptedException never) {
            throw new IllegalStateException(never);
        }
        clients.values().forEach(RestanteClient::close);
        core.shutdownNow();
        gateways.shutdownNow();
        timer.shutdownNow();
    }

    // --- What commands say ---

    private static String text(JsonObject asked, String name) {
        return asked.get(name).getAsString();
    }

    private static ByteString octets(JsonObject asked, String name) {
        return asked.has(name) ? ByteString.copyFrom(Base64.getDecoder().decode(text(asked, name))) : ByteString.EMPTY;
    }

    private static Duration timeout(JsonObject asked) {
        JsonElement given = asked.get("timeout_milliseconds");
        return Duration.ofMillis(given == null ? TIMEOUT_MILLISECONDS : given.getAsLong());
    }

    private static boolean isSet(JsonObject asked, String name) {
        return asked.has(name) && asked.get(name).getAsBoolean();
    }

    private static MethodDescriptor<Message, Message> method(JsonObject asked) {
        return Contract.method(text(asked, "method"));
    }

    private static Message request(JsonObject asked) {
        return Contract.request(method(asked), asked.get("request"));
    }

    private static List<JsonObject> operations(JsonObject asked) {
        return asked.getAsJsonArray("operations").asList().stream().map(JsonElement::getAsJsonObject).toList();
    }

    private static JsonObject done() {
        return Answers.object("result", new JsonObject());
    }

    // --- The session layer ---

    private RestanteClient client(JsonObject asked) {
        String name = asked.has("as") ? text(asked.getAsJsonObject("as"), "session") : text(asked, "session");
        RestanteClient found = clients.get(name);
        if (found == null) {
            throw new IllegalArgumentException("there is no session " + name);
        }
        return found;
    }

    private void forget(String name) {
        RestanteClient before = clients.remove(name);
        if (before != null) {
            before.close();
        }
    }

    private JsonObject logOn(JsonObject asked) {
        forget(text(asked, "session"));
        clients.put(
                text(asked, "session"),
                RestanteClient.logOn(config, text(asked, "user"), text(asked, "password")));
        return session(asked);
    }

    private JsonObject resume(JsonObject asked) {
        forget(text(asked, "session"));
        clients.put(text(asked, "session"), RestanteClient.resume(config, octets(asked, "token")));
        return session(asked);
    }

    private JsonObject session(JsonObject asked) {
        return Answers.result("session", Contract.shown(client(asked).session()));
    }

    private JsonObject renew(JsonObject asked) {
        client(asked).renew();
        return session(asked);
    }

    private JsonObject changePassword(JsonObject asked) {
        client(asked).changePassword(text(asked, "old"), text(asked, "new"));
        return session(asked);
    }

    private JsonObject logOff(JsonObject asked) {
        client(asked).logOff();
        return done();
    }

    private JsonObject closeClient(JsonObject asked) {
        forget(text(asked, "session"));
        return done();
    }

    // --- Calls ---

    /** A channel that calls as whom the command says. */
    private Channel caller(JsonObject asked) {
        if (!asked.has("as")) {
            return core;
        }
        JsonObject as = asked.getAsJsonObject("as");
        if (as.has("identity")) {
            Metadata entries = new Metadata();
            entries.put(Metadata.Key.of("restante-identity", Metadata.ASCII_STRING_MARSHALLER), text(as, "identity"));
            entries.put(Metadata.Key.of("restante-secret", Metadata.ASCII_STRING_MARSHALLER), text(as, "secret"));
            return with(gateways, entries);
        }
        ByteString token = as.has("token") ? octets(as, "token") : client(asked).session().getSessionToken();
        return with(core, RestanteConfig.authorization(token));
    }

    private static Channel with(Channel channel, Metadata entries) {
        return ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(entries));
    }

    private JsonObject rpc(JsonObject asked) {
        MethodDescriptor<Message, Message> method = method(asked);
        CallOptions options =
                CallOptions.DEFAULT.withDeadlineAfter(timeout(asked).toMillis(), TimeUnit.MILLISECONDS);
        Context.CancellableContext context = Context.current().withCancellation();
        if (asked.has("cancel_after_milliseconds")) {
            long after = asked.get("cancel_after_milliseconds").getAsLong();
            timer.schedule(() -> context.cancel(null), after, TimeUnit.MILLISECONDS);
        }
        Context before = context.attach();
        try {
            if (method.getType() == MethodDescriptor.MethodType.UNARY) {
                Message response = ClientCalls.blockingUnaryCall(caller(asked), method, options, request(asked));
                return Answers.result("response", Contract.shown(response));
            }
            return streamed(asked, method, options);
        } finally {
            context.detach(before);
            context.cancel(null); // ends a stream that was not read to its end
        }
    }

    private JsonObject streamed(JsonObject asked, MethodDescriptor<Message, Message> method, CallOptions options) {
        Iterator<Message> stream =
                ClientCalls.blockingServerStreamingCall(caller(asked), method, options, request(asked));
        int wanted = asked.has("take") ? asked.get("take").getAsInt() : Integer.MAX_VALUE;
        JsonArray responses = new JsonArray();
        boolean complete = false;
        while (!complete && responses.size() < wanted) {
            complete = !stream.hasNext();
            if (!complete) {
                responses.add(Contract.shown(stream.next()));
            }
        }
        JsonObject result = Answers.object("responses", responses);
        result.addProperty("complete", complete);
        return Answers.object("result", result);
    }

    private JsonObject call(JsonObject asked) {
        Message response = client(asked).call(method(asked), request(asked), timeout(asked));
        return Answers.result("response", Contract.shown(response));
    }

    private JsonObject pages(JsonObject asked) {
        JsonArray responses = new JsonArray();
        client(asked).pages(method(asked), request(asked)).forEach(page -> responses.add(Contract.shown(page)));
        return Answers.result("responses", responses);
    }

    private JsonObject execute(JsonObject asked) {
        RestanteClient client = client(asked);
        List<CompletableFuture<Message>> futures = new ArrayList<>();
        for (JsonObject each : operations(asked)) {
            ExecuteOptions options = new ExecuteOptions(timeout(each), isSet(each, "independent"));
            futures.add(client.execute(method(each), request(each), options));
        }
        JsonArray outcomes = new JsonArray();
        for (CompletableFuture<Message> future : futures) {
            outcomes.add(future.handle((response, failure) -> failure == null
                            ? Answers.object("response", Contract.shown(response))
                            : Answers.error(RestanteException.of(failure)))
                    .join());
        }
        return Answers.result("outcomes", outcomes);
    }

    private JsonObject executeOnce(JsonObject asked) {
        List<JsonObject> operations = operations(asked);
        ExecuteOnceRequest.Builder request = ExecuteOnceRequest.newBuilder();
        for (JsonObject each : operations) {
            Operation.Builder operation = request.addOperationsBuilder()
                    .setOperationId(request.getOperationsCount())
                    .setIndependent(isSet(each, "independent"))
                    .setField(Contract.requestField(Operation.getDescriptor(), method(each)), request(each));
            if (each.has("timeout_milliseconds")) {
                operation.setTimeoutMilliseconds((int) timeout(each).toMillis());
            }
            if (asked.has("as") && asked.getAsJsonObject("as").has("session")) {
                operation.setSessionToken(client(asked).session().getSessionToken());
            }
        }
        ExecuteOnceResponse response = BatchServiceGrpc.newBlockingStub(caller(asked))
                .withDeadlineAfter(TIMEOUT_MILLISECONDS, TimeUnit.MILLISECONDS)
                .executeOnce(request.build());
        JsonArray outcomes = new JsonArray();
        for (int i = 0; i < response.getResultsCount(); i++) {
            outcomes.add(outcome(response.getResults(i), method(operations.get(i))));
        }
        return Answers.result("outcomes", outcomes);
    }

    private static JsonObject outcome(OperationResult result, MethodDescriptor<Message, Message> method) {
        if (result.hasStatus()) {
            return Answers.error(RestanteException.of(result.getStatus()));
        }
        Message response = (Message) result.getField(Contract.responseField(OperationResult.getDescriptor(), method));
        return Answers.object("response", Contract.shown(response));
    }

    // --- Octets ---

    private JsonObject upload(JsonObject asked) throws IOException {
        UploadKind kind = UploadKind.valueOf(text(asked, "kind"));
        return Answers.result(
                "response", Contract.shown(client(asked).upload(kind, Path.of(text(asked, "path")))));
    }

    private JsonObject read(JsonObject asked) {
        long id = asked.get("message_id").getAsLong();
        RestanteClient client = client(asked);
        ByteString octets = asked.has("section")
                ? client.readContent(id, (Section) Contract.read(asked.get("section"), Section.newBuilder()))
                : client.readContent(id);
        return Answers.result("octets", new JsonPrimitive(Base64.getEncoder().encodeToString(octets.toByteArray())));
    }

    // --- Streams ---

    private JsonObject watch(JsonObject asked) {
        var events = client(asked).watch(asked.get("folder_id").getAsLong(), WatchOptions.withSnapshot());
        streams.put(text(asked, "stream"), BackgroundStream.of(events, event -> {
            JsonObject shown = Answers.object("changes", Contract.shown(event.changes()));
            shown.addProperty("fresh", event.fresh());
            return shown;
        }));
        return done();
    }

    private JsonObject sync(JsonObject asked) {
        SyncMailboxRequest.Builder request = SyncMailboxRequest.newBuilder()
                .setCursor(octets(asked, "cursor"))
                .setFollow(isSet(asked, "follow"));
        if (asked.has("folder_id")) {
            request.setFolderId(asked.get("folder_id").getAsLong());
        }
        if (asked.has("columns")) {
            asked.getAsJsonArray("columns")
                    .forEach(column -> request.addColumns(MessageColumn.valueOf(column.getAsString())));
        }
        var changes = client(asked).sync(request.build());
        streams.put(text(asked, "stream"), BackgroundStream.of(changes, Contract::shown));
        return done();
    }

    private JsonObject next(JsonObject asked) throws InterruptedException {
        return streams.get(text(asked, "stream")).next(timeout(asked).toMillis());
    }

    private JsonObject stop(JsonObject asked) throws InterruptedException {
        streams.remove(text(asked, "stream")).stop();
        return done();
    }
}
