"""Subscriptions to folders on the process's Watch stream."""

from __future__ import annotations

import enum
from collections.abc import Callable

import structlog

from restante import errors
from restante.link import CoreLink
from restante.v1 import sync_pb2
from restante.watch import Watching
from restante_gateways.imap.core import convert
from restante_gateways.imap.values import Changes, Place

log = structlog.get_logger("imap")


class WatchEnd(enum.Enum):
    """The reason for the end of a subscription."""

    FOLDER_GONE = enum.auto()
    STORE_RESTORED = enum.auto()
    INTERRUPTED = enum.auto()  # the caller must read the missed changes, then watch again


def watch_folder(
    link: CoreLink,
    place: Place,
    since_change_number: int,
    epoch: int,
    token: Callable[[], bytes],
    on_changes: Callable[[Changes], None],
    on_end: Callable[[WatchEnd], None],
) -> Watching:
    """Watch a folder from a change number on, until the caller closes it or `on_end` is called.

    The callbacks must not block. Each subscription calls `token` for the token of a session that may see the folder.
    """

    def take(notice: sync_pb2.WatchResponse) -> None:
        match notice.WhichOneof("notice"):
            case "folder":
                on_changes(convert.changes(notice.folder))
            case "reset_reason":
                on_end(_END_OF_RESET.get(notice.reset_reason, WatchEnd.INTERRUPTED))
            case "rejected":
                refusal = errors.from_status(notice.rejected)
                expired = isinstance(refusal, errors.SessionExpired)  # normal: the session has a newer token
                (log.debug if expired else log.warning)("watch rejected", reason=refusal.reason)
                on_end(WatchEnd.INTERRUPTED)
            case _:
                pass  # the subscription stands

    return link.watch.subscribe(place.mailbox_id, place.folder_id, since_change_number, epoch, token, take)


_END_OF_RESET = {
    sync_pb2.RESET_REASON_FOLDER_GONE: WatchEnd.FOLDER_GONE,
    sync_pb2.RESET_REASON_EPOCH_CHANGED: WatchEnd.STORE_RESTORED,
}
