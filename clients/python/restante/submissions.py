"""Submissions: messages that the user sends, and the state of each recipient."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from pathlib import Path

from restante.calls import Calls
from restante.contents import INLINE_OCTETS, Contents, Progress
from restante.v1 import methods
from restante.v1.content_pb2 import UploadKind
from restante.v1.message_pb2 import Draft
from restante.v1.submission_pb2 import (
    CancelSubmissionRequest,
    EnvelopeRecipient,
    GetSubmissionRequest,
    ListSubmissionsRequest,
    SubmissionRecord,
    SubmitMessageRequest,
    SubmitMessageResponse,
)

PAGE_SIZE = 100


class Submissions:
    """The user's submissions."""

    def __init__(self, calls: Calls, contents: Contents) -> None:
        self._calls, self._contents = calls, contents

    async def submit(
        self,
        message: Draft | bytes | Path | int,
        *,
        recipients: Iterable[str | EnvelopeRecipient] = (),
        reverse_path: str | None = None,
        send_at: datetime | None = None,
        on_progress: Progress | None = None,
    ) -> SubmitMessageResponse:
        """Send a draft, RFC 5322 octets, a file of them, or a message of the mailbox by its id.

        The default recipients are all in To, Cc and Bcc. Raises SenderNotPermitted, RecipientNotFound, NoRecipients,
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
            upload = await self._contents.upload(UploadKind.UPLOAD_KIND_MESSAGE, message, on_progress=on_progress)
            request.upload_id = upload.upload_id
        if send_at is not None:
            request.send_at.FromDatetime(send_at)
        return await self._calls.execute(methods.SUBMIT_MESSAGE, request)

    async def list(self) -> AsyncIterator[SubmissionRecord]:
        """The user's submissions, latest first, with the state of each recipient."""
        async for page in self._calls.pages(methods.LIST_SUBMISSIONS, ListSubmissionsRequest(page_size=PAGE_SIZE)):
            for submission in page.submissions:
                yield submission

    async def get(self, submission_id: int) -> SubmissionRecord:
        """The present state of a submission. Raises SubmissionNotFound."""
        request = GetSubmissionRequest(submission_id=submission_id)
        return (await self._calls.execute(methods.GET_SUBMISSION, request)).submission

    async def cancel(self, submission_id: int) -> SubmissionRecord:
        """Cancel a submission that has not been sent yet. Raises SubmissionNotFound, SubmissionNotCancellable."""
        request = CancelSubmissionRequest(submission_id=submission_id)
        return (await self._calls.execute(methods.CANCEL_SUBMISSION, request)).submission
