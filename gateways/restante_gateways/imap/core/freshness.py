"""Current change numbers of folders: one request for all sessions that ask in the same turn of the event loop.

An answer counts only for sessions that asked before its request was sent. The core may have read the numbers of an
earlier request before a change that it has just acknowledged to another client.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from restante import errors
from restante.link import CoreLink
from restante.v1 import methods
from restante.v1.folder_pb2 import GetChangeNumbersRequest, GetChangeNumbersResponse
from restante_gateways.imap.values import Place

_MOST_FOLDERS = 256  # of one request
_TIMEOUT_SECONDS = 10.0


class Reached(NamedTuple):
    """The state of a folder."""

    change_number: int
    epoch: int  # of the store


class _Question(NamedTuple):
    session_token: bytes
    place: Place
    answer: asyncio.Future[Reached]


class Freshness:
    """Reads change numbers for all sessions of the process.

    The call has the process's own identity; each folder in it carries its session's token.
    """

    def __init__(self, link: CoreLink) -> None:
        self._link = link
        self._waiting: list[_Question] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, session_token: bytes, place: Place) -> asyncio.Future[Reached]:
        """The state of a folder, including all changes that the core acknowledged before this call.

        The future raises the core's refusal of the session, and the error of an unreachable core.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting:
            task = loop.create_task(self._send())  # begins in the next turn
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        question = _Question(session_token, place, loop.create_future())
        self._waiting.append(question)
        return question.answer

    async def _send(self) -> None:
        """Send the waiting questions; later ones form the next request."""
        waiting, self._waiting = self._waiting, []
        if len(waiting) <= _MOST_FOLDERS:
            await self._ask(waiting)
            return
        starts = range(0, len(waiting), _MOST_FOLDERS)
        await asyncio.gather(*(self._ask(waiting[start : start + _MOST_FOLDERS]) for start in starts))

    async def _ask(self, questions: list[_Question]) -> None:
        request = GetChangeNumbersRequest()
        for token, place, _ in questions:
            folder = request.folders.add()
            folder.session_token, folder.mailbox_id, folder.folder_id = token, *place
        failure: errors.RestanteError | None = None
        try:
            answer = await self._link.execute(methods.GET_CHANGE_NUMBERS, request, timeout=_TIMEOUT_SECONDS)
            self._tell(questions, answer)
        except errors.RestanteError as error:
            failure = error
        finally:
            for question in questions:
                if not question.answer.done():  # no answer will arrive, so end the session's wait
                    question.answer.set_exception(failure or errors.Internal("The change numbers could not be read."))

    @staticmethod
    def _tell(questions: list[_Question], answer: GetChangeNumbersResponse) -> None:
        refused = {each.index: each.status for each in answer.refused}
        for index, (question, number) in enumerate(zip(questions, answer.change_numbers, strict=True)):
            if question.answer.done():
                continue  # its session has ended
            if index in refused:
                question.answer.set_exception(errors.from_status(refused[index]))
            else:
                question.answer.set_result(Reached(number, answer.epoch))
