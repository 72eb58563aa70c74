"""Many IMAP sessions change one folder at once; the test checks every answer, and none may be wrong.

    python -m tests.faults.session_stress [--seconds 600] [--sessions 15] [--postgres | --store URL] [--seed N]

The platform runs as `restante up` with its child processes. The sessions use APPEND, STORE, EXPUNGE, MOVE, COPY, FETCH
by number and UID, SEARCH, IDLE and NOOP; two more clients delete permanently and purge by the API. These are wrong:
octets, sizes, UIDs or flags that cannot be those of the message; a FETCH or STORE that is not OK or leaves a message
out, even a removed one; a number that shifts under FETCH, STORE or SEARCH; EXISTS and EXPUNGE that do not add up; a
COPY or MOVE of a part; an acknowledged change that NOOP does not report; a session that ends. Prints JSON; exits 1
after any wrong answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import re
import secrets
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from restante import errors
from restante.client import Client
from restante.v1 import methods
from restante.v1.message_pb2 import (
    DELETE_MODE_HARD,
    DeleteMessagesRequest,
    ListRecoverableMessagesRequest,
    MessageSet,
    PurgeRecoverableMessagesRequest,
)
from restante.v1.types_pb2 import IdRange, UidSet
from tests.faults.imap_wire import Closed, Wire, fetched
from tests.faults.kill_rounds import check, running
from tests.faults.stress_model import FLAGS, Folder
from tests.harness.postgres import PostgresServer, running_cluster

USER, PASSWORD = "alice@example.test", "alice-demo"
FOLDER = b"Stress"
FEWEST, MOST = 60, 160  # messages that the sessions keep in the folder
SIZES = (200, 2_000, 20_000, 120_000)
ITEMS = (
    b"FLAGS",
    b"UID FLAGS",
    b"UID",
    b"UID FLAGS RFC822.SIZE",
    b"UID ENVELOPE FLAGS",
    b"UID BODY.PEEK[] FLAGS",
    b"BODY.PEEK[TEXT]<7.100> UID",
    b"UID BODY[]",
    b"BODY[] FLAGS",
    b"INTERNALDATE RFC822.SIZE",
)
STORED = FLAGS[:4] + FLAGS[5:]  # `mark` sets \Deleted


class Session:
    """One connection: the state it has learned, the commands it sends, and the checks of the answers."""

    def __init__(self, number: int, folder: Folder, base: int, chance: random.Random) -> None:
        self.number, self.folder, self.base, self.chance = number, folder, base, chance
        self.uids: list[int | None] = []  # by message number; None: not learned yet
        self.flags: list[frozenset[bytes] | None] = []  # the latest reported flags
        self.commands: Counter[str] = Counter()
        self.holding = self.selecting = False  # the server must not send EXPUNGE now
        self.rows: dict[int, dict[bytes, bytes | list[bytes]]] = {}  # items fetched since the command was sent
        self.sent_at = 0.0
        self.searched: list[int] = []
        self.asked_of_removed = 0  # requested messages whose removal may have begun without a report yet

    # --- responses ---

    async def open(self) -> None:
        """Connect, log in and select the folder."""
        self.wire = await Wire.connect(self.base + 143, self.hear)
        assert (await self.wire.command(b"LOGIN %b %b" % (USER.encode(), PASSWORD.encode()))).startswith(b"OK")
        await self.select()

    async def select(self) -> None:
        """Select the folder and start from an empty state."""
        self.uids, self.flags, self.selecting = [], [], True
        answer = await self.wire.command(b"SELECT " + FOLDER)
        self.selecting = False
        self.expect(answer.startswith(b"OK"), "select", answer)

    def expect(self, holds: bool, kind: str, what: object) -> None:
        """Check one answer; `holds` is false when it is wrong."""
        self.folder.expect(holds, kind, f"session {self.number}, {self.doing!r}: {what!r}"[:400])

    doing = b""

    def hear(self, response: bytes) -> None:
        """Handle an untagged response."""
        if (told := re.fullmatch(rb"\* (\d+) (EXISTS|EXPUNGE|RECENT)", response)) is not None:
            number = int(told[1])
            if told[2] == b"EXISTS":
                self.expect(number >= len(self.uids), "EXISTS that falls", (number, len(self.uids)))
                more = max(0, number - len(self.uids))
                self.uids += [None] * more
                self.flags += [None] * more
            elif told[2] == b"EXPUNGE":
                self._hear_expunge(number)
        elif response.startswith(b"* SEARCH"):
            self.searched = [int(word) for word in response[8:].split()]
        elif (row := fetched(response)) is not None:
            self._hear_fetch(*row)

    def _hear_expunge(self, number: int) -> None:
        self.expect(not self.holding, "EXPUNGE that shifts numbers in use", number)
        if not 1 <= number <= len(self.uids):
            self.expect(False, "EXPUNGE of no message", (number, len(self.uids)))
            return
        uid = self.uids[number - 1]
        if uid is not None:
            self.expect(self.folder.removing(uid, time.monotonic()), "EXPUNGE of what nobody removed", uid)
        del self.uids[number - 1], self.flags[number - 1]

    def _hear_fetch(self, number: int, items: dict[bytes, bytes | list[bytes]]) -> None:
        if not 1 <= number <= len(self.uids):
            self.expect(False, "FETCH of no message", (number, len(self.uids)))
            return
        now = time.monotonic()
        if isinstance(text := items.get(b"UID"), bytes):
            self._learn(number, int(text))
        uid = self.uids[number - 1]
        if isinstance(given := items.get(b"FLAGS"), list):
            self.flags[number - 1] = frozenset(given)
            if uid is not None and self.folder.known(uid):
                for flag in FLAGS:
                    may_be = self.folder.may_be(uid, flag, flag in given, -1.0, now, self.number)
                    self.expect(may_be, "flag that was never so", (uid, flag, given))
        self.rows.setdefault(number, {}).update(items)
        message = self.folder.known(uid)
        for name, value in items.items():
            if name == b"BODY[]" and isinstance(value, bytes):
                key = re.search(rb"X-Stress-Id: (\w+)", value)
                self.expect(key is not None, "octets of no message", value[:80])
                if message is not None:
                    self.expect(
                        hashlib.sha256(value).digest() == message.digest, "octets that differ", (uid, len(value))
                    )
            elif message is None:
                continue
            elif name == b"RFC822.SIZE":
                self.expect(value == b"%d" % message.size_octets, "size that differs", (uid, value))
            elif name == b"BODY[TEXT]<7>":
                self.expect(value == message.text[7:107], "octets of a range that differ", (uid, value))
            elif name == b"ENVELOPE" and isinstance(value, list):
                self.expect(value[1] == b"stress " + message.key, "envelope that differs", (uid, value[1]))

    def _learn(self, number: int, uid: int) -> None:
        known = self.uids[number - 1]
        if known is not None:
            self.expect(known == uid, "number that means another message", (number, known, uid))
            return
        below = max((other for other in self.uids[: number - 1] if other is not None), default=0)
        above = min((other for other in self.uids[number:] if other is not None), default=1 << 32)
        self.expect(below < uid < above, "UIDs that do not ascend", (number, below, uid, above))
        self.uids[number - 1] = uid

    # --- commands ---

    async def run(self, name: str, *parts: bytes, holding: bool = False) -> bytes:
        """Run one command and return the tagged answer."""
        self.commands[name] += 1
        self.rows, self.searched, self.holding, self.doing = {}, [], holding, parts[0][:80]
        self.sent_at = time.monotonic()
        answer = await self.wire.command(*parts)
        self.holding = False
        return answer

    def some(self, most: int) -> list[int]:
        """Some message numbers, ascending."""
        count = self.chance.randint(1, min(most, len(self.uids)))
        return sorted(self.chance.sample(range(1, len(self.uids) + 1), count))

    def learned(self, most: int) -> list[int]:
        """Some message numbers with known UIDs, ascending: the test cannot follow changes of other messages."""
        known = [number for number, uid in enumerate(self.uids, start=1) if uid is not None]
        return sorted(self.chance.sample(known, self.chance.randint(min(1, len(known)), min(most, len(known)))))

    def uids_of(self, numbers: list[int]) -> list[int | None]:
        """The UIDs of message numbers."""
        return [self.uids[number - 1] for number in numbers]

    async def append(self) -> None:
        """APPEND."""
        key = secrets.token_hex(8).encode()
        text = secrets.token_hex(self.chance.choice(SIZES) // 2).encode()
        lines = b"\r\n".join(text[at : at + 76] for at in range(0, len(text), 76))
        octets = b"From: alice@example.test\r\nSubject: stress %b\r\nX-Stress-Id: %b\r\n\r\n%b\r\n" % (key, key, lines)
        flags = self.chance.sample(STORED, self.chance.randint(0, 3))
        began = time.monotonic()
        answer = await self.run("APPEND", b"APPEND %b (%b) " % (FOLDER, b" ".join(flags)), octets)
        code = re.match(rb"OK \[APPENDUID \d+ (\d+)\]", answer)
        self.expect(code is not None, "append", answer)
        if code is not None:
            self.folder.appended(int(code[1]), key, octets, flags, began, time.monotonic(), self.number)

    async def fetch(self) -> None:
        """FETCH by number."""
        await self._fetch("FETCH", b"FETCH ")

    async def fetch_by_uid(self) -> None:
        """UID FETCH."""
        await self._fetch("UID FETCH", b"UID FETCH ")

    async def _fetch(self, name: str, verb: bytes) -> None:
        items = self.chance.choice(ITEMS)
        numbers = self.learned(6) if b"BODY[]" in items or name == "UID FETCH" else self.some(6)
        if not numbers:
            return
        uids = self.uids_of(numbers)
        command = verb + _set(uids if name == "UID FETCH" else numbers)
        began = time.monotonic()
        self.asked_of_removed += sum(
            self.folder.known(uid) is not None for uid in uids if self.folder.removing(uid, began)
        )
        writes = []
        if b"BODY[]" in items:
            writes = self.folder.begin_store(uids, {b"\\Seen": True}, began, self.number)
        before = list(self.uids)
        answer = await self.run(name, b"%b (%b)" % (command, items), holding=name == "FETCH")
        self.folder.end_store(writes, time.monotonic())
        self.expect(answer.startswith(b"OK"), "FETCH that is not OK", answer)
        wanted = set(items.replace(b".PEEK", b"").replace(b"<7.100>", b"<7>").split())
        for number in numbers:
            missing = wanted - self.rows.get(number, {}).keys()
            self.expect(not missing, "FETCH that leaves something out", (number, before[number - 1], missing))
        if b"FLAGS" in wanted and name == "FETCH":
            self._judge_flags(numbers)

    def _judge_flags(self, numbers: list[int]) -> None:
        """Check after a command that the latest reported flags are those of the message, or those at its removal."""
        now = time.monotonic()
        for number in numbers:
            uid, given = self.uids[number - 1], self.flags[number - 1]
            if uid is None or given is None or not self.folder.known(uid):
                continue
            for flag in FLAGS:
                may_be = self.folder.may_be(uid, flag, flag in given, self.sent_at, now, self.number)
                self.expect(may_be, "flags that are not true", (uid, flag, sorted(given)))

    async def store(self) -> None:
        """STORE of all but \\Deleted, by number."""
        numbers, flags = self.learned(4), self.chance.sample(STORED, self.chance.randint(1, 2))
        verb = self.chance.choice([b"+FLAGS", b"-FLAGS", b"FLAGS", b"+FLAGS.SILENT", b"-FLAGS.SILENT"])
        if verb.startswith(b"FLAGS"):
            values = {flag: flag in flags for flag in FLAGS}
        else:
            values = dict.fromkeys(flags, verb.startswith(b"+"))
        await self._store(numbers, verb, flags, values)

    async def mark(self) -> None:
        """STORE of \\Deleted."""
        verb = self.chance.choice([b"+FLAGS", b"+FLAGS.SILENT"])
        await self._store(self.learned(3), verb, [b"\\Deleted"], {b"\\Deleted": True})

    async def _store(self, numbers: list[int], verb: bytes, flags: list[bytes], values: dict[bytes, bool]) -> None:
        if not numbers:
            return
        writes = self.folder.begin_store(self.uids_of(numbers), values, time.monotonic(), self.number)
        command = b"STORE %b %b (%b)" % (_set(numbers), verb, b" ".join(flags))
        answer = await self.run("STORE", command, holding=True)
        self.folder.end_store(writes, time.monotonic())
        self.expect(answer.startswith(b"OK"), "STORE that is not OK", answer)
        if verb.endswith(b"SILENT"):
            for number in numbers:
                self.flags[number - 1] = None
            return
        for number in numbers:
            self.expect(b"FLAGS" in self.rows.get(number, {}), "STORE that tells no flags", number)
        self._judge_flags(numbers)

    async def expunge(self) -> None:
        """EXPUNGE."""
        self.folder.begin_expunge(time.monotonic())
        answer = await self.run("EXPUNGE", b"EXPUNGE")
        self.folder.end_expunge()
        self.expect(answer.startswith(b"OK"), "expunge", answer)

    async def copy(self) -> None:
        """COPY by number: all or none."""
        await self._transfer(b"COPY")

    async def move(self) -> None:
        """MOVE by number: all or none."""
        await self._transfer(b"MOVE")

    async def _transfer(self, verb: bytes) -> None:
        numbers = self.learned(3)
        if not numbers:
            return
        uids = self.uids_of(numbers)
        if verb == b"MOVE":
            self.folder.begin_removal(uids, time.monotonic())
        answer = await self.run(verb.decode(), b"%b %b Archive" % (verb, _set(numbers)))
        code = re.search(rb"COPYUID \d+ (\S+) (\S+)\]", answer)
        if answer.startswith(b"OK") and verb == b"COPY":
            copied = _count(code[1]) if code is not None else 0
            self.expect(copied == len(numbers), "copy of less than all", (numbers, answer))
        elif not answer.startswith(b"OK"):
            gone = any(self.folder.removing(uid, time.monotonic()) for uid in uids)
            self.expect(answer.startswith(b"NO [EXPUNGEISSUED]") and gone, "transfer that is refused", answer)
        if answer.startswith(b"OK") and verb == b"MOVE":
            left = [uid for uid in uids if uid is not None and uid in self.uids]
            self.expect(not left, "MOVE that leaves something", left)

    async def noop(self) -> None:
        """NOOP, which must report every change acknowledged before it."""
        there = set(self.folder.alive)
        answer = await self.run("NOOP", b"NOOP")
        self.expect(answer.startswith(b"OK"), "noop", answer)
        unknown = sum(uid is None for uid in self.uids)
        missing = sorted((there & self.folder.alive) - set(self.uids))
        self.expect(len(missing) <= unknown, "NOOP that does not tell what was acknowledged", missing[:3])

    async def search(self) -> None:
        """SEARCH by number."""
        flag = self.chance.choice([b"ALL", b"SEEN", b"UNFLAGGED", b"KEYWORD $Blue", b"HEADER X-Stress-Id"])
        wanted = None
        if flag.startswith(b"HEADER"):
            wanted = self.chance.choice(self.uids)
            if (message := self.folder.known(wanted)) is None:
                return
            flag += b" " + message.key
        answer = await self.run("SEARCH", b"SEARCH " + flag, holding=True)
        self.expect(answer.startswith(b"OK"), "search", answer)
        found, now = self.searched, time.monotonic()
        self.expect(found == sorted(set(found)), "SEARCH out of order", found)
        self.expect(all(1 <= number <= len(self.uids) for number in found), "SEARCH of no message", found[-1:])
        if flag == b"ALL":
            for number, uid in enumerate(self.uids, start=1):
                self.expect(number in found or self.folder.removing(uid, now), "SEARCH that misses one", (number, uid))
        elif wanted is not None:
            hit = [number for number in range(1, len(self.uids) + 1) if self.uids[number - 1] == wanted]
            removing = self.folder.removing(wanted, now)
            self.expect(found == hit or (not found and removing), "SEARCH that finds another", (found, hit))
        else:
            of, value = {b"SEEN": (FLAGS[0], True), b"UNFLAGGED": (FLAGS[2], False)}.get(flag, (b"$Blue", True))
            for number in found:
                uid = self.uids[number - 1] if number <= len(self.uids) else None
                if uid is not None and self.folder.known(uid):
                    may_be = self.folder.may_be(uid, of, value, self.sent_at, now, self.number)
                    self.expect(may_be, "SEARCH of a flag that is not so", (uid, flag))

    async def idle(self) -> None:
        """IDLE."""
        self.commands["IDLE"] += 1
        self.rows, self.doing = {}, b"IDLE"
        answer = await self.wire.idle(self.chance.uniform(0.02, 0.4))
        self.expect(answer.startswith(b"OK"), "idle", answer)

    async def reopen(self) -> None:
        """UNSELECT and SELECT."""
        answer = await self.run("UNSELECT", b"UNSELECT")
        self.expect(answer.startswith(b"OK"), "unselect", answer)
        await self.select()

    async def learn(self) -> None:
        """Fetch the unknown UIDs."""
        numbers = [number for number, uid in enumerate(self.uids, start=1) if uid is None]
        if numbers:
            answer = await self.run("FETCH", b"FETCH %b (UID)" % _set(numbers), holding=True)
            self.expect(answer.startswith(b"OK"), "FETCH that is not OK", answer)
            for number in numbers:
                self.expect(b"UID" in self.rows.get(number, {}), "FETCH that leaves something out", number)

    async def work(self, until: float) -> None:
        """Run random commands until the end; at times a long run of commands that must not report EXPUNGE."""
        lagging = 0
        by_number = [(self.fetch, 10), (self.store, 5), (self.search, 2), (self.mark, 1), (self.learn, 3)]
        all_of_it = [*by_number, (self.fetch_by_uid, 4), (self.append, 6), (self.expunge, 2), (self.copy, 1)]
        all_of_it += [(self.move, 1), (self.noop, 3), (self.idle, 1), (self.mark, 2)]
        try:
            while time.monotonic() < until:
                if len(self.uids) < FEWEST:
                    await (self.append() if self.chance.random() < 0.7 else self.noop())
                    continue
                if lagging == 0 and self.chance.random() < 0.02:
                    lagging = self.chance.randint(10, 60)
                lagging = max(0, lagging - 1)
                choices = by_number if lagging else all_of_it
                if not lagging and len(self.uids) > MOST and self.chance.random() < 0.3:
                    await self.mark()
                    await self.expunge()
                    continue
                if self.chance.random() < 0.002:
                    await self.reopen()
                    continue
                (act,) = self.chance.choices([each for each, _ in choices], [weight for _, weight in choices])
                await act()
        except Closed as ended:
            self.expect(False, "session that ends", str(ended))


async def delete_for_good(base: int, ca: bytes, folder: Folder, chance: random.Random, until: float) -> Counter[str]:
    """Delete some messages permanently by the API, and purge recoverable ones, while sessions lag behind."""
    done: Counter[str] = Counter()
    async with Client.connect(f"localhost:{base + 51}", user=USER, password=PASSWORD, root_certificates=ca) as me:
        place = await me.folders.get(FOLDER.decode())
        while time.monotonic() < until:
            await asyncio.sleep(chance.uniform(0.1, 0.6))
            if len(folder.alive) > FEWEST:
                uid = chance.choice(sorted(folder.alive))
                folder.begin_removal([uid], time.monotonic())
                wanted = MessageSet(uids=UidSet(folder_id=place.folder_id, ranges=[IdRange(first=uid, last=uid)]))
                request = DeleteMessagesRequest(messages=wanted, mode=DELETE_MODE_HARD)
                done["deleted for good"] += len((await me.execute(methods.DELETE_MESSAGES, request)).deleted_uids)
            page = await me.execute(methods.LIST_RECOVERABLE_MESSAGES, ListRecoverableMessagesRequest(page_size=100))
            ids = [message.message_id for message in page.messages]
            purge = PurgeRecoverableMessagesRequest(message_ids=ids)
            with contextlib.suppress(errors.StoreBusy):
                done["purged"] += (await me.execute(methods.PURGE_RECOVERABLE_MESSAGES, purge)).purged_count
    return done


async def stress(base: int, directory: Path, count: int, seconds: float, seed: int) -> dict[str, object]:
    """Run the whole stress and return the counts."""
    folder = Folder()
    first = await Wire.connect(base + 143, lambda _: None)
    await first.command(b"LOGIN %b %b" % (USER.encode(), PASSWORD.encode()))
    await first.command(b"CREATE " + FOLDER)
    sessions = [Session(number, folder, base, random.Random(seed + number)) for number in range(count)]
    for session in sessions:
        await session.open()
    until = time.monotonic() + seconds
    ca = (directory / "ca.pem").read_bytes()
    deleting = asyncio.create_task(delete_for_good(base, ca, folder, random.Random(seed), until))
    await asyncio.gather(*(session.work(until) for session in sessions))
    deleted = await deleting
    pictures = set()
    for session in sessions:  # at the end all sessions must see the same
        await session.noop()
        await session.learn()
        pictures.add(tuple(session.uids))
        await session.wire.close()
    folder.expect(len(pictures) == 1, "sessions that differ in the end", str([len(each) for each in pictures]))
    await first.close()
    commands = sum((session.commands for session in sessions), Counter[str]())
    return {
        "sessions": count,
        "seconds": seconds,
        "seed": seed,
        "commands": commands.total(),
        "by_command": dict(commands.most_common()),
        "by_api": dict(deleted),
        "messages": len(folder.messages),
        "asked_of_removed": sum(session.asked_of_removed for session in sessions),
        "judged": folder.judged.total(),
        "wrong": folder.wrong.total(),
        "by_kind": dict(folder.wrong.most_common()),
        "examples": folder.examples,
    }


def _set(numbers: Sequence[int | None]) -> bytes:
    return b",".join(b"%d" % number for number in numbers if number is not None)


def _count(ranges: bytes) -> int:
    ends = [(part.split(b":")[0], part.split(b":")[-1]) for part in ranges.split(b",")]
    return sum(int(last) - int(first) + 1 for first, last in ends)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--sessions", type=int, default=15)
    parser.add_argument("--store", default="", help="URL of an empty PostgreSQL database; without it SQLite")
    parser.add_argument("--postgres", action="store_true", help="a PostgreSQL server of its own, for this run")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        store = arguments.store
        if arguments.postgres:
            store = PostgresServer(stack.enter_context(running_cluster())).create_database()
        _, base, directory = stack.enter_context(running(store))
        outcome = asyncio.run(stress(base, directory, arguments.sessions, arguments.seconds, arguments.seed))
        outcome["findings"] = asyncio.run(check(directory))
    print(json.dumps(outcome, indent=1))
    return 1 if outcome["wrong"] or outcome["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
