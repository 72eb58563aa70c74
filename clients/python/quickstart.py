"""Logs on, lists the Inbox, sends oneself a message with an attachment, and waits for it."""

import sys
from pathlib import Path

from restante import OutgoingFile, SyncClient

user, password = "alice@example.test", "alice-demo"
target, roots = sys.argv[1], Path(sys.argv[2]).read_bytes()

with SyncClient.connect(target, root_certificates=roots, user=user, password=password) as me:
    inbox = me.folder("INBOX")
    for message in me.messages(inbox):
        print(message.message_id, message.received_at, message.summary.subject)

    file = OutgoingFile(b"Hello!\n", "hello.txt")
    me.submit(me.compose(to=[user], subject="Hello from Python", text="See the file.", attachments=[file]))

    for event in me.watch(inbox, since=inbox.change_number):
        for message_id in event.changes.message_ids:
            print(f"arrived: message {message_id}")
            print(me.read(message_id).decode())
        if event.changes.message_ids:
            break
