package io.restante.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import io.restante.v1.Draft;
import io.restante.v1.MailAddress;
import io.restante.v1.SubmitMessageRequest;
import java.io.IOException;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Messages to send, and a server that is down. */
class MailTest {
    private static RestanteConfig.Builder nowhere() throws IOException {
        try (ServerSocket socket = new ServerSocket(0)) { // a port that nobody listens on once this is closed
            return RestanteConfig.newBuilder("127.0.0.1:" + socket.getLocalPort());
        }
    }

    @Test
    void aRequestHasWhatTheMailSays(@TempDir Path directory) throws IOException {
        Path plan = Files.writeString(directory.resolve("plan.pdf"), "the plan");
        Mail mail = Mail.to("\"Bob \\\"B\\\"\" <bob@example.test>")
                .bcc("carol@example.test")
                .from("alice@example.test")
                .subject("Plan")
                .text("See the file.")
                .inReplyTo("<2@example.test>", List.of("<1@example.test>"))
                .sendAt(Instant.ofEpochSecond(1_900_000_000))
                .attach(plan)
                .inline("logo@example.test", "logo.png", new byte[] {1});
        SubmitMessageRequest request;
        try (RestanteClient client = new RestanteClient(new Core(nowhere().build()))) {
            request = mail.request(client);
        }
        Draft draft = request.getDraft();
        MailAddress bob = MailAddress.newBuilder().setDisplayName("Bob \"B\"").setAddress("bob@example.test").build();
        assertEquals(List.of(bob), draft.getToList());
        assertEquals("carol@example.test", draft.getBcc(0).getAddress());
        assertEquals("alice@example.test", draft.getAuthor().getAddress());
        assertEquals("Plan", draft.getSubject());
        assertEquals("See the file.", draft.getText());
        assertEquals(List.of("<1@example.test>", "<2@example.test>"), draft.getReferencesList());
        assertEquals(1_900_000_000, request.getSendAt().getSeconds());
        assertEquals("plan.pdf", draft.getAttachments(0).getFileName());
        assertEquals("application/pdf", draft.getAttachments(0).getMediaType());
        assertEquals("the plan", draft.getAttachments(0).getContent().toStringUtf8());
        assertEquals("image/png", draft.getAttachments(1).getMediaType());
        assertTrue(draft.getAttachments(1).getInlined());
        assertEquals("logo@example.test", draft.getAttachments(1).getContentId());
    }

    @Test
    void aFileThatIsNotThereIsNotSent(@TempDir Path directory) throws IOException {
        Mail mail = Mail.to("bob@example.test").attach(directory.resolve("absent"));
        try (RestanteClient client = new RestanteClient(new Core(nowhere().build()))) {
            assertThrows(NoSuchFileException.class, () -> client.send(mail));
        }
    }

    @Test
    void aServerThatIsDownIsNamedWithTheCauseWhenPatienceEnds() throws IOException {
        RestanteConfig impatient = nowhere().patience(Duration.ofMillis(300)).build();
        RestanteConfig late =
                nowhere().patience(Duration.ofMinutes(1)).timeout(Duration.ofMillis(1_500)).build();
        for (RestanteConfig config : List.of(impatient, late)) {
            long began = System.nanoTime();
            RestanteException failure = assertThrows(
                    RestanteException.class, () -> RestanteClient.logOn(config, "alice@example.test", "alice-demo"));
            assertEquals(Status.Code.UNAVAILABLE, failure.code());
            String said = failure.getMessage();
            assertTrue(said.contains("Cannot reach " + config.address() + ": "), said);
            assertTrue(said.contains("Connection refused"), said);
            assertTrue(System.nanoTime() - began < Duration.ofSeconds(10).toNanos(), "it has patience for less");
        }
    }
}
