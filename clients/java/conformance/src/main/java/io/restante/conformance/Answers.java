package io.restante.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.restante.client.RestanteException;

/** Lines to the judge, without their ids. */
final class Answers {
    private Answers() {}

    /** An object of one field. */
    static JsonObject object(String name, JsonElement value) {
        JsonObject made = new JsonObject();
        made.add(name, value);
        return made;
    }

    static JsonObject result(String name, JsonElement value) {
        return object("result", object(name, value));
    }

    static JsonObject error(RestanteException failure) {
        return object("error", shown(failure));
    }

    /** An error as a program that uses the SDK sees it. */
    static JsonObject shown(RestanteException failure) {
        JsonObject metadata = new JsonObject();
        failure.metadata().forEach(metadata::addProperty);
        JsonObject shown = object("metadata", metadata);
        shown.addProperty("code", failure.code().name());
        shown.addProperty("reason", failure.reasonName());
        String description = failure.getStatus().getDescription();
        shown.addProperty("message", description == null ? "" : description);
        JsonArray violations = new JsonArray();
        failure.violations().forEach(each -> {
            JsonObject violation = new JsonObject();
            violation.addProperty("field", each.field());
            violation.addProperty("problem", each.problem());
            violations.add(violation);
        });
        shown.add("violations", violations);
        shown.addProperty("text", failure.getMessage());
        shown.addProperty("type", failure.getClass().getName());
        failure.retryDelay().ifPresent(delay -> shown.addProperty("retry_seconds", delay.toNanos() / 1e9));
        return shown;
    }
}
