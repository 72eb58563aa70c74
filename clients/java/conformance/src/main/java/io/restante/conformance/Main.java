package io.restante.conformance;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.restante.client.RestanteConfig;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/** The runner of the Java SDK: see tests/conformance/README.md for what it is told and answers. */
public final class Main {
    private Main() {}

    /**
     * Does commands until there are no more.
     *
     * @param arguments none
     * @throws IOException when a line cannot be read, or the certificate
     */
    public static void main(String[] arguments) throws IOException {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8), 1 << 20);
        PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        JsonObject hello = JsonParser.parseString(lines.readLine()).getAsJsonObject().getAsJsonObject("hello");
        try (Runner runner = new Runner(hello)) {
            JsonObject ready = new JsonObject();
            ready.addProperty("sdk", RestanteConfig.VERSION);
            ready.addProperty("runtime", "Java " + Runtime.version());
            ready.addProperty("encoding", "json");
            JsonObject first = new JsonObject();
            first.add("ready", ready);
            answers.println(first);
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                JsonObject command = JsonParser.parseString(line).getAsJsonObject();
                JsonObject answer = runner.answer(command);
                answer.add("id", command.get("id"));
                answers.println(answer);
            }
        }
    }
}
