// Logs on, lists the Inbox, sends oneself a message with an attachment, and waits for it.
import { readFileSync } from "node:fs";
import { Client, LISTING, messages } from "@restante/client";
import { FolderRole, FolderService, MessageService, SubmissionService } from "@restante/client/v1";

const [target = "", ca = ""] = process.argv.slice(2);
const [user, password] = ["alice@example.test", "alice-demo"];
const client = await Client.connect({ target, ca: readFileSync(ca) }, { user, password });

const { folder } = await client.service(FolderService).getFolder({ role: FolderRole.INBOX });
const { folderId = "", changeNumber: since = "" } = folder ?? {};
const query = { folderId, columns: [...LISTING] };
for await (const page of client.pages(MessageService.method.queryMessages, query)) {
  for (const message of messages(page.rows)) {
    console.log(message.messageId, message.receivedAt?.toISOString(), message.summary?.subject);
  }
}

const file = { fileName: "hello.txt", mediaType: "text/plain", content: new TextEncoder().encode("Hello!\n") };
const draft = { to: [{ address: user }], subject: "Hello from TypeScript", attachments: [file] };
await client.service(SubmissionService).submitMessage({ source: { case: "draft", value: draft } });

for await (const { changes } of client.watch(folderId, { since })) {
  const [messageId] = changes.messageIds;
  if (messageId !== undefined) {
    console.log(`arrived: message ${messageId}`);
    console.log(new TextDecoder().decode(await client.read(String(messageId))));
    break;
  }
}
client.close();
