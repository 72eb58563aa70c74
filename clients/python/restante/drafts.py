"""Drafts: unsent messages that the user writes."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path

from restante.calls import Calls
from restante.contents import INLINE_OCTETS, Contents, Progress
from restante.folders import FolderName, Folders
from restante.v1 import methods
from restante.v1.content_pb2 import UploadKind
from restante.v1.message_pb2 import CreateDraftRequest, CreateDraftResponse, Draft
from restante.v1.types_pb2 import MailAddress

ENCODED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}

Address = str | MailAddress
"""A person: "alice@example.org" or "Alice <alice@example.org>"."""


@dataclass(frozen=True, slots=True)
class OutgoingFile:
    """A file to attach to a message: its octets, or a path that `compose` reads."""

    source: bytes | Path
    file_name: str = ""  # default: the path's name
    media_type: str = ""  # default: guessed from the name
    content_id: str = ""  # for references from HTML; the file is then shown inline

    @property
    def size_octets(self) -> int:
        """The size before encoding. Raises OSError."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    @property
    def shown_name(self) -> str:
        """The name that the reader sees."""
        return self.file_name or (self.source.name if isinstance(self.source, Path) else "")

    @property
    def shown_type(self) -> str:
        """The given media type, or one guessed from the name."""
        if self.media_type:
            return self.media_type
        guessed, encoding = mimetypes.guess_type(self.shown_name)
        return (ENCODED.get(encoding, "") if encoding else guessed) or "application/octet-stream"


def mail_address(address: Address) -> MailAddress:
    """The contract's MailAddress of an address. Raises ValueError when the text contains no address."""
    if isinstance(address, MailAddress):
        return address
    name, spec = parseaddr(address, strict=True) if _STRICT else parseaddr(address)
    if not spec or "@" not in spec:
        raise ValueError(f"{address!r} is not an address such as alice@example.org")
    return MailAddress(display_name=name, address=spec)


_STRICT = "strict" in (parseaddr.__kwdefaults__ or {})  # older Pythons have no such argument


class Drafts:
    """Drafts, composed from their parts and saved."""

    def __init__(self, calls: Calls, folders: Folders, contents: Contents) -> None:
        self._calls, self._folders, self._contents = calls, folders, contents

    async def compose(
        self,
        *,
        to: Iterable[Address] = (),
        cc: Iterable[Address] = (),
        bcc: Iterable[Address] = (),
        reply_to: Iterable[Address] = (),
        author: Address | None = None,
        subject: str = "",
        text: str = "",
        html: str = "",
        attachments: Sequence[OutgoingFile | Path] = (),
        in_reply_to: str = "",
        references: Iterable[str] = (),
        on_progress: Progress | None = None,
    ) -> Draft:
        """Return a draft, having uploaded attachments that are too large for one call. The default author is the user.

        Raises ValueError for a text without an address, OSError, MessageTooLarge, StoreFull.
        """
        draft = Draft(
            author=mail_address(author) if author is not None else self._own_address(),
            to=map(mail_address, to),
            cc=map(mail_address, cc),
            bcc=map(mail_address, bcc),
            reply_to=map(mail_address, reply_to),
            subject=subject,
            text=text,
            html=html,
            in_reply_to=in_reply_to,
            references=references,
        )
        files = [OutgoingFile(file) if isinstance(file, Path) else file for file in attachments]
        total, done, inline = sum(file.size_octets for file in files), 0, INLINE_OCTETS
        for file in files:
            size, before = file.size_octets, done
            attachment = draft.attachments.add(
                file_name=file.shown_name,
                media_type=file.shown_type,
                inlined=bool(file.content_id),
                content_id=file.content_id,
            )
            if size <= inline:
                attachment.content = file.source if isinstance(file.source, bytes) else file.source.read_bytes()
                inline -= size
            else:
                attachment.upload_id = await self._upload_file(file, before, total, on_progress)
            done += size
            if on_progress is not None:
                on_progress(done, total)
        return draft

    async def save(self, draft: Draft, *, folder: FolderName | None = None, mailbox_id: int = 0) -> CreateDraftResponse:
        """Put a draft into the Drafts folder, or another one. Raises InvalidAddress, QuotaExceeded."""
        request = CreateDraftRequest(
            mailbox_id=mailbox_id,
            draft=draft,
            folder_id=await self._folders.id_of(folder, mailbox_id=mailbox_id) if folder is not None else 0,
        )
        return await self._calls.execute(methods.CREATE_DRAFT, request)

    def _own_address(self) -> MailAddress:
        account = self._calls.session.info
        return MailAddress(display_name=account.display_name, address=account.address)

    async def _upload_file(self, file: OutgoingFile, before: int, total: int, on_progress: Progress | None) -> bytes:
        def sent(done: int, _size: int) -> None:
            if on_progress is not None:
                on_progress(before + done, total)

        upload = await self._contents.upload(UploadKind.UPLOAD_KIND_ATTACHMENT, file.source, on_progress=sent)
        return upload.upload_id
