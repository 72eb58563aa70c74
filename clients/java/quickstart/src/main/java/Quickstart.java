// Logs on, lists the Inbox, sends oneself a message with an attachment, and waits for it.
import static io.restante.v1.MessageServiceGrpc.getQueryMessagesMethod;

import io.restante.client.*;
import io.restante.v1.*;
import java.nio.file.Path;

public class Quickstart {
    public static void main(String[] arguments) throws Exception {
        var user = "alice@example.test";
        var config = RestanteConfig.newBuilder(arguments[0]).trust(Path.of(arguments[1])).build();
        try (var client = RestanteClient.logOn(config, user, "alice-demo")) {
            var inbox = client.folder("INBOX");
            var query = QueryMessagesRequest.newBuilder().setFolderId(inbox.getFolderId());
            query.addColumns(MessageColumn.MESSAGE_COLUMN_SUMMARY);
            for (var page : client.pages(getQueryMessagesMethod(), query.build())) {
                for (var row : MessageRow.of(page.getRows())) {
                    System.out.println(row.id() + " " + row.summary().getSubject());
                }
            }

            var mail = Mail.to(user).subject("Hello from Java").text("See the file.");
            client.send(mail.attach("hello.txt", "Hello!\n".getBytes()));

            try (var events = client.watch(inbox.getFolderId(), WatchOptions.since(inbox.getChangeNumber()))) {
                var changes = events.next().changes();
                while (changes.getMessageIdsCount() == 0) {
                    changes = events.next().changes();
                }
                System.out.println("arrived: message " + changes.getMessageIds(0));
                System.out.print(client.readContent(changes.getMessageIds(0)).toStringUtf8());
            }
        }
    }
}
