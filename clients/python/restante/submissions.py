"""Mail that is written and sent."""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parseaddr
from pathlib import Path

from restante.folders import FolderName
from restante.messages import INLINE_OCTETS, MessageCalls
from restante.v1 import methods
from restante.v1.content_pb2 import UploadKind
from restante.v1.message_pb2 import CreateDraftRequest, CreateDraftResponse, Draft
from restante.v1.submission_pb2 import (
    CancelSubmissionRequest,
    EnvelopeRecipient,
    GetSubmissionRequest,
    ListSubmissionsRequest,
    SubmissionRecord,
    SubmitMessageRequest,
    SubmitMessageResponse,
)
from restante.v1.types_pb2 import MailAddress

PAGE_SIZE = 100
ENCODED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}

Address = str | MailAddress
"""Somebody: "alice@example.org" or "Alice <alice@example.org>"."""


@dataclass(frozen=True, slots=True)
class OutgoingFile:
    """A file that goes with a message: octets, or a path that is read when it is sent."""

    source: bytes | Path
    file_name: str = ""  # default: the path's name
    media_type: str = ""  # default: guessed from the name
    content_id: str = ""  # for references from HTML; then it is shown within the text

    @property
    def size_octets(self) -> int:
        """Before encoding. Raises OSError."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    @property
    def shown_name(self) -> str:
        """The name that the reader sees."""
        return self.file_name or (self.source.name if isinstance(self.source, Path) else "")

    @property
    def shown_type(self) -> str:
        """The media type, guessed where none was given."""
        if self.media_type:
            return self.media_type
        guessed, encoding = mimetypes.guess_type(self.shown_name)
        return (ENCODED.get(encoding, "") if encoding else guessed) or "application/octet-stream"


def mail_address(address: Address) -> MailAddress:
    """An address as the contract has it. Raises ValueError when there is none in the text."""
    if isinstance(address, MailAddress):
        return address
    name, spec = parseaddr(address, strict=True) if _STRICT else parseaddr(address)
    if not spec or "@" not in spec:
        raise ValueError(f"{address!r} is not an address")
    return MailAddress(display_name=name, address=spec)


_STRICT = "strict" in (parseaddr.__kwdefaults__ or {})  # older Pythons have no such argument


class SubmissionCalls(MessageCalls):
    """Drafts, sending, and what became of it."""

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
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Draft:
        """A draft; attachments that are too large for one call are uploaded now. The author is oneself by default.

        Raises ValueError for what is no address, OSError, MessageTooLarge, StoreFull.
        """
        draft = Draft(
            author=mail_address(author) if author is not None else self._oneself(),
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

    async def save_draft(
        self, draft: Draft, *, folder: FolderName | None = None, mailbox_id: int = 0
    ) -> CreateDraftResponse:
        """Put a draft into the Drafts folder, or another one. Raises InvalidAddress, QuotaExceeded."""
        request = CreateDraftRequest(
            mailbox_id=mailbox_id,
            draft=draft,
            folder_id=await self.folder_id(folder, mailbox_id=mailbox_id) if folder is not None else 0,
        )
        return await self.execute(methods.CREATE_DRAFT, request)

    async def submit(
        self,
        message: Draft | bytes | Path | int,
        *,
        recipients: Iterable[str | EnvelopeRecipient] = (),
        reverse_path: str | None = None,
        send_at: datetime | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> SubmitMessageResponse:
        """Send a draft, RFC 5322 octets, a file of them, or a message of the mailbox by its id.

        Without `recipients`, to all in To, Cc and Bcc. Raises SenderNotPermitted, RecipientNotFound, NoRecipients,
        InvalidAddress, InvalidContent, MessageTooLarge.
        """
        request = SubmitMessageRequest(
            reverse_path=reverse_path,
            recipients=[EnvelopeRecipient(forward_path=each) if isinstance(each, str) else each for each in recipients],
        )
        if isinstance(message, Draft):
            request.draft.CopyFrom(message)
        elif isinstance(message, int):
            request.message_id = message
        elif isinstance(message, bytes) and len(message) <= INLINE_OCTETS:
            request.content = message
        else:
            upload = await self.upload(UploadKind.UPLOAD_KIND_MESSAGE, message, on_progress=on_progress)
            request.upload_id = upload.upload_id
        if send_at is not None:
            request.send_at.FromDatetime(send_at)
        return await self.execute(methods.SUBMIT_MESSAGE, request)

    async def submissions(self) -> AsyncIterator[SubmissionRecord]:
        """What the user has sent, latest first, with the state of each recipient."""
        async for page in self.pages(methods.LIST_SUBMISSIONS, ListSubmissionsRequest(page_size=PAGE_SIZE)):
            for submission in page.submissions:
                yield submission

    async def submission(self, submission_id: int) -> SubmissionRecord:
        """One of them as it stands. Raises SubmissionNotFound."""
        request = GetSubmissionRequest(submission_id=submission_id)
        return (await self.execute(methods.GET_SUBMISSION, request)).submission

    async def cancel_submission(self, submission_id: int) -> SubmissionRecord:
        """Take back what has not gone yet. Raises SubmissionNotFound, SubmissionNotCancellable."""
        request = CancelSubmissionRequest(submission_id=submission_id)
        return (await self.execute(methods.CANCEL_SUBMISSION, request)).submission

    def _oneself(self) -> MailAddress | None:
        if self._session is None:
            return None
        return MailAddress(display_name=self._session.info.display_name, address=self._session.info.address)

    async def _upload_file(
        self, file: OutgoingFile, before: int, total: int, on_progress: Callable[[int, int], None] | None
    ) -> bytes:
        def told(done: int, _size: int) -> None:
            if on_progress is not None:
                on_progress(before + done, total)

        upload = await self.upload(UploadKind.UPLOAD_KIND_ATTACHMENT, file.source, on_progress=told)
        return upload.upload_id
