"""Costs of the IMAP view: rendering, changes from the core, reports to clients, memory. Prints one JSON object.

python -m tests.bench.bench_imap_view [--messages 10000]
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable

from restante.v1.types_pb2 import FolderChanges, IdRange
from restante_gateways.imap.core import convert
from restante_gateways.imap.grammar.fetch import fetch_layout
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.values import Cells, Rows
from restante_gateways.imap.view.folder import FolderView
from restante_gateways.imap.view.rows import RowWriter
from restante_gateways.imap.view.session import SessionView

ROUNDS = 20
LIST = b"(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)"
ENVELOPE = (
    b'("Mon, 1 Jan 2024 10:00:00 +0000" "A subject of some length" '
    + b'(("Alice" NIL "alice" "example.test"))' * 5
    + b")"
)


def snapshot(count: int) -> FolderChanges:
    return FolderChanges(
        uids=range(1, count + 1),
        message_ids=range(count),
        flags=[at % 8 for at in range(count)],
        change_numbers=[1] * count,
    )


def view_of(count: int) -> FolderView:
    view = FolderView(1, 1)
    view.load(convert.changes(snapshot(count)))
    return view


def best(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The shortest of some runs, in seconds."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def rendering(count: int) -> dict[str, float]:
    session = SessionView(view_of(count), read_only=True)
    whole = [(0, count)]
    rows = Rows(
        uids=range(1, 257),
        received_at_seconds=range(256),
        received_offset_minutes=[60] * 256,
        size_octets=[2000] * 256,
        envelopes=[ENVELOPE] * 256,
    )
    full = Rows(uids=range(1, 129), sections=[Cells(octets=[b"x" * 2000] * 128, total_octets=[2000] * 128)])

    def write(items: bytes, batch: Rows) -> None:
        RowWriter(session, fetch_layout(Parser(items)), (), False).batch(batch)

    return {
        "flags_per_second": count / best(lambda: list(session.flag_responses(whole, False, False))),
        "uid_flags_per_second": count / best(lambda: list(session.flag_responses(whole, True, False))),
        "uid_flags_modseq_per_second": count / best(lambda: list(session.flag_responses(whole, True, True))),
        "list_rows_per_second": 256 / best(lambda: write(LIST, rows)),
        "full_rows_per_second": 128 / best(lambda: write(b"(UID BODY.PEEK[])", full)),
    }  # fmt: skip


def changing(count: int) -> dict[str, float]:
    found: dict[str, float] = {"load_per_second": count / best(lambda: view_of(count), 5)}
    view = view_of(count)
    store = snapshot(count)
    store.since_change_number, store.change_number = 1, 2
    del store.change_numbers[:]
    store.change_numbers.extend([2] * count)
    began = time.perf_counter()
    view.apply(convert.changes(store))
    found["store_all_per_second"] = count / (time.perf_counter() - began)
    session = SessionView(view, read_only=False)
    gone = [IdRange(first=uid, last=uid) for uid in range(1, count, 2)]
    began = time.perf_counter()
    view.apply(convert.changes(FolderChanges(since_change_number=2, change_number=3, vanished_uids=gone)))
    found["remove_every_other_per_second"] = len(gone) / (time.perf_counter() - began)
    began = time.perf_counter()
    session.announce(may_expunge=True)
    found["tell_expunges_per_second"] = len(gone) / (time.perf_counter() - began)
    steps = [
        FolderChanges(
            since_change_number=number - 1,
            change_number=number,
            uids=[count],
            message_ids=[0],
            flags=[1],
            change_numbers=[number],
        )
        for number in range(4, 1004)
    ]
    began = time.perf_counter()
    for step in steps:
        view.apply(convert.changes(step))
        session.announce(may_expunge=True)
    found["one_flag_change_and_telling_microseconds"] = (time.perf_counter() - began) / len(steps) * 1e6
    return found


def memory() -> dict[str, float]:
    """Octets of a connection with an unshared small folder, and of a further session on a large folder."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    own = [SessionView(view_of(10), read_only=False) for _ in range(200)]
    middle = tracemalloc.get_traced_memory()[0]
    shared = view_of(50_000)
    loaded = tracemalloc.get_traced_memory()[0]
    more = [SessionView(shared, read_only=False) for _ in range(200)]
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return {
        "view_and_session_octets": (middle - before) / len(own),
        "octets_per_message": (loaded - middle) / 50_000,
        "session_on_shared_view_octets": (after - loaded) / len(more),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--messages", type=int, default=10_000)
    count = options.parse_args().messages
    print(json.dumps({"messages": count, **rendering(count), **changing(count), **memory()}, indent=2))


if __name__ == "__main__":
    main()
