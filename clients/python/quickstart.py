"""Logs on, lists the Inbox, sends oneself a message with an attachment, and waits for it."""

import sys
from pathlib import Path

from restante import OutgoingFile, SyncClient

user, password = "alice@example.test", "alice-demo"
target, roots = sys.argv[1], Path(sys.argv[2]).read_bytes()

with SyncClient.connect(target, root_certificates=roots, user=user, password=password) as me:
    inbox = me.folders.get("INBOX")
    for message in me.messages.query(inbox):
        print(message.message_id, message.received_at, message.summary.subject)

    file = OutgoingFile(b"Hello!\n", "hello.txt")
    draft = me.drafts.compose(to=[user], subject="Hello from Python", text="See the file.", attachments=[file])
    me.submissions.submit(draft)

    for event in me.changes.watch(inbox, since=inbox.change_number):
        for message_id in event.changes.message_ids:
            print(f"arrived: message {message_id}")
            print(me.contents.read(message_id).decode())
        if event.changes.message_ids:
            break
