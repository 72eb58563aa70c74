package io.restante.conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import io.restante.client.EventStream;
import io.restante.client.RestanteException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** A stream of the SDK that is read in the background, each answer kept for `next`. */
final class BackgroundStream {
    private final BlockingQueue<JsonObject> answers = new LinkedBlockingQueue<>();
    private final EventStream<?> events;
    private final Thread reader;

    private BackgroundStream(EventStream<?> events, Runnable read) {
        this.events = events;
        reader = new Thread(read, "stream");
    }

    static <T> BackgroundStream of(EventStream<T> events, Function<T, JsonElement> show) {
        BackgroundStream[] made = new BackgroundStream[1];
        made[0] = new BackgroundStream(events, () -> made[0].read(events, show));
        made[0].reader.start();
        return made[0];
    }

    private <T> void read(EventStream<T> from, Function<T, JsonElement> show) {
        try {
            for (T event : from) {
                answers.add(Answers.result("event", show.apply(event)));
            }
            answers.add(Answers.result("end", new JsonPrimitive(true)));
        } catch (RestanteException failure) {
            answers.add(Answers.error(failure));
        }
    }

    /** What came next, as an answer. */
    JsonObject next(long milliseconds) throws InterruptedException {
        JsonObject answer = answers.poll(milliseconds, TimeUnit.MILLISECONDS);
        return answer != null ? answer : Answers.result("event", JsonNull.INSTANCE);
    }

    /** Ends it, at the server too. */
    void stop() throws InterruptedException {
        events.close();
        reader.join();
    }
}
