// Logs on, lists the Inbox, sends oneself a message with an attachment, and waits for it.
import static io.restante.v1.FolderServiceGrpc.getGetFolderMethod;
import static io.restante.v1.MessageServiceGrpc.getQueryMessagesMethod;
import static io.restante.v1.SubmissionServiceGrpc.getSubmitMessageMethod;

import com.google.protobuf.ByteString;
import io.restante.client.*;
import io.restante.v1.*;
import java.nio.file.Path;

public class Quickstart {
    public static void main(String[] arguments) throws Exception {
        var user = "alice@example.test";
        var config = RestanteConfig.newBuilder(arguments[0]).trust(Path.of(arguments[1])).build();
        try (var client = RestanteClient.logOn(config, user, "alice-demo")) {
            var wanted = GetFolderRequest.newBuilder().setRole(FolderRole.FOLDER_ROLE_INBOX).build();
            var inbox = client.call(getGetFolderMethod(), wanted).getFolder();
            var query = QueryMessagesRequest.newBuilder().setFolderId(inbox.getFolderId());
            query.addColumns(MessageColumn.MESSAGE_COLUMN_SUMMARY);
            for (var page : client.pages(getQueryMessagesMethod(), query.build())) {
                for (var row : MessageRow.of(page.getRows())) {
                    System.out.println(row.id() + " " + row.summary().getSubject());
                }
            }

            var file = Attachment.newBuilder().setFileName("hello.txt").setMediaType("text/plain");
            file.setContent(ByteString.copyFromUtf8("Hello!\n"));
            var draft = Draft.newBuilder().setSubject("Hello from Java").addAttachments(file);
            draft.addTo(MailAddress.newBuilder().setAddress(user));
            client.call(getSubmitMessageMethod(), SubmitMessageRequest.newBuilder().setDraft(draft).build());

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
