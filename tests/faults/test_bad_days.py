"""Bad input and failures on a running platform: each gets the protocol's clear error, no process stops, no acknowledged
message is lost, and everything recovers without help."""

from __future__ import annotations

import base64
import random
import re
import secrets
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import create_engine

from restante.link import CoreLink
from restante.v1 import methods
from restante.v1.admin_pb2 import SetPasswordRequest, UpdateAccountRequest
from restante_server.store.check import check as check_store
from restante_server.transport.check import check as check_queue
from tests.faults.wire import DOMAIN, House, Memory, Wire, deliver, eventually, house, message

pytestmark = pytest.mark.faults

MIB = 1 << 20


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One platform for the whole module: each test leaves it in working order."""
    with house(tmp_path_factory.mktemp("bad-days")) as made:
        yield made


@pytest.fixture(autouse=True)
def well_afterwards(home: House) -> Iterator[None]:
    """Wait after each test until every process works again."""
    yield
    home.wait_until_back()


def subjects(home: House, name: str, folder: str = "INBOX") -> set[bytes]:
    """The subjects in a folder."""
    with home.imap(name, folder) as wire:
        lines = wire.imap(b"FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        return {line.partition(b": ")[2].strip() for line in lines if line.lower().startswith(b"subject:")}


def append(wire: Wire, octets: bytes, folder: str = "INBOX") -> bytes:
    """The answer to APPEND: the refusal of its literal, or the tagged line."""
    (answer,) = wire.imap(f"APPEND {folder} {{{len(octets)}}}".encode())[-1:]
    if not answer.startswith(b"+"):
        return answer
    wire.send(octets + b"\r\n")
    return wire.until(b"x")[-1]


# --- The disk and the database --------------------------------------------------------------------------------------


def test_a_full_disk_takes_no_mail_and_gives_out_what_is_there(home: House) -> None:
    with home.wire("smtp") as smtp:
        assert deliver(smtp, "bob", octets=message("before it was full")).startswith(b"250")
    normal = re.compile(r"reserve_octets = \d+")
    home.change_config(lambda text: normal.sub(f"reserve_octets = {1 << 60}", text))
    home.processes()["core"].terminate()
    assert eventually(lambda: is_full(home), 20)
    try:
        with home.wire("smtp") as smtp, home.submission("alice") as submission:
            assert deliver(smtp, "bob").startswith(b"452 4.3.1")
            own = message().replace(b"someone@example.org", f"alice@{DOMAIN}".encode())
            assert deliver(submission, "bob", octets=own, sender=f"alice@{DOMAIN}").startswith(b"452 4.3.1")
            assert smtp.smtp(b"NOOP").startswith(b"250")
        with home.imap("bob", "INBOX") as imap:
            assert append(imap, message()).startswith(b"x NO [OVERQUOTA]")
            assert b"FETCH" in b"".join(imap.imap(b"FETCH 1 BODY.PEEK[]"))  # reading works
            assert b"x OK" in imap.imap(b"STORE 1 +FLAGS (\\Deleted)")[-1]  # so does making room
            answers = imap.imap(b"EXPUNGE")
            assert b"* 1 EXPUNGE\r\n" in answers and answers[-1].startswith(b"x OK")
        with home.pop3("bob") as pop3:
            assert pop3.pop3(b"STAT").startswith(b"+OK")
            assert pop3.pop3(b"DELE 1").startswith(b"+OK") and pop3.pop3(b"QUIT").startswith(b"+OK")
    finally:
        home.change_config(lambda text: normal.sub("reserve_octets = 104857600", text))
        home.restart_core()
    with home.wire("smtp") as smtp:
        assert deliver(smtp, "bob", octets=message("room again")).startswith(b"250")
    assert b"room again" in subjects(home, "bob")


def is_full(home: House) -> bool:
    with home.wire("smtp") as smtp:
        return deliver(smtp, "carol").startswith(b"452 4.3.1")


@contextmanager
def locked(home: House) -> Iterator[None]:
    """Hold the database's write lock, as another program might."""
    other = sqlite3.connect(home.directory / "store.db", isolation_level=None, timeout=10)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_locked_database_is_answered_for_the_moment_and_passes(home: House) -> None:
    octets = message("sent while it was locked")
    with home.imap("alice", "INBOX") as imap, home.wire("smtp") as smtp, home.wire("pop3") as pop3:
        pop3.pop3(f"USER carol@{DOMAIN}".encode())
        answers: dict[str, bytes] = {}
        work = {
            "smtp": lambda: deliver(smtp, "bob", octets=octets),
            "imap": lambda: imap.imap(b"STORE 1 +FLAGS ($locked)")[-1],
            "pop3": lambda: pop3.pop3(b"PASS carol-demo"),  # opens the maildrop, which is a write
        }
        with locked(home):
            began = time.monotonic()
            threads = [
                threading.Thread(target=lambda name=name, run=run: answers.update({name: run()}))
                for name, run in work.items()
            ]
            for thread in threads:
                thread.start()
            with home.imap("bob", "INBOX") as reader:
                assert reader.imap(b"FETCH 1:* FLAGS")[-1].startswith(b"x OK")  # reads never wait for the writer
            for thread in threads:
                thread.join(60)
            assert time.monotonic() - began < 45
        assert re.match(rb"4\d\d 4\.", answers["smtp"]), answers
        assert answers["imap"].startswith(b"x NO [UNAVAILABLE]"), answers
        assert answers["pop3"].startswith(b"-ERR [SYS/TEMP]"), answers
        # The same connections still work.
        assert imap.imap(b"STORE 1 +FLAGS ($unlocked)")[-1].startswith(b"x OK")
        assert deliver(smtp, "bob", octets=message("sent when it was free")).startswith(b"250")
    assert b"sent when it was free" in subjects(home, "bob")
    assert b"sent while it was locked" not in subjects(home, "bob")  # the refused message was not delivered


# --- The core is unavailable ----------------------------------------------------------------------------------------


def test_while_the_core_is_away_gateways_answer_for_the_moment_and_recover(home: House) -> None:
    imap, smtp, pop3, idle = (
        home.imap("alice", "INBOX"),
        home.wire("smtp"),
        home.pop3("bob"),
        home.imap("carol", "INBOX"),
    )
    idle.send(b"i IDLE\r\n")
    assert idle.line().startswith(b"+")
    home.change_config(lambda text: "unknown_key = 1\n" + text)  # so that the core cannot restart
    home.processes()["core"].kill()
    try:
        assert imap.imap(b"STATUS Sent (MESSAGES)")[-1].startswith(b"x NO [UNAVAILABLE]")
        assert re.match(rb"4[25]1 4\.", deliver(smtp, "bob"))
        with home.wire("imap") as late:
            assert late.imap(f"LOGIN bob@{DOMAIN} bob-demo".encode())[-1].startswith(b"x NO [UNAVAILABLE]")
        assert pop3.pop3(b"NOOP").startswith(b"+OK")  # a command without the core
    finally:
        home.change_config(lambda text: text.removeprefix("unknown_key = 1\n"))
    home.wait_until_back(30)
    assert imap.imap(b"STATUS Sent (MESSAGES)")[-1].startswith(b"x OK")  # the same sessions
    assert deliver(smtp, "carol", octets=message("after the core was away")).startswith(b"250")
    assert re.match(rb"\* \d+ EXISTS", idle.line())  # the watch resumed by itself
    for wire in (imap, smtp, pop3, idle):
        wire.__exit__()


def test_a_core_that_is_told_to_end_loses_no_command(home: House) -> None:
    """Commands wait until the next core is ready."""
    answers: list[bytes] = []
    stop = threading.Event()

    def ask() -> None:
        with home.imap("alice") as wire:
            while not stop.is_set():
                answers.append(append(wire, message("kept"), "Archive"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    home.restart_core()
    time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join(60)
    good = [answer for answer in answers if answer.startswith(b"x OK")]
    refused = [answer for answer in answers if not answer.startswith(b"x OK")]
    assert len(good) > 10 and all(b"[UNAVAILABLE]" in answer for answer in refused), refused[:3]
    with home.imap("alice", "Archive") as wire:
        found = wire.imap(b"UID SEARCH SUBJECT kept")[0].split()[2:]
        assert len(found) == len(good)
        wire.imap(b"STORE 1:* +FLAGS.SILENT (\\Deleted)")
        wire.imap(b"EXPUNGE")


def test_a_gateway_that_is_told_to_end_says_goodbye_and_comes_back(home: House) -> None:
    before = home.processes()
    imap, smtp, pop3 = home.imap("alice", "INBOX"), home.wire("smtp"), home.pop3("bob")
    for name in ("imap", "smtp", "pop3"):
        before[name].send_signal(signal.SIGTERM)
    assert imap.line().startswith(b"* BYE")
    assert smtp.line().startswith(b"421 4.3.2")
    assert pop3.line()[:4] in (b"", b"-ERR")  # POP3 has no other answer for it than -ERR
    assert imap.line() == smtp.line() == b""
    home.wait_until_back(30)
    after = home.processes()
    assert all(after[name].pid != before[name].pid for name in ("imap", "smtp", "pop3"))


# --- Sessions --------------------------------------------------------------------------------------------------------


def test_a_session_revoked_in_mid_idle_is_told_within_five_seconds(home: House) -> None:
    idle, waiting = home.imap("carol", "INBOX"), home.imap("carol")
    pop3, submission = home.pop3("carol"), home.submission("carol")
    idle.send(b"i IDLE\r\n")
    assert idle.line().startswith(b"+")

    async def change(link: CoreLink, password: str) -> None:
        request = SetPasswordRequest(address=f"carol@{DOMAIN}", password=password)
        await link.execute(methods.SET_PASSWORD, request)

    began = time.monotonic()
    home.ask(lambda link: change(link, "carol-has-another"))
    try:
        assert idle.line().startswith(b"* BYE")
        assert waiting.line().startswith(b"* BYE")
        assert submission.line().startswith(b"421")
        assert pop3.line()[:4] in (b"", b"-ERR")
        assert time.monotonic() - began < 5
        assert idle.line() == waiting.line() == submission.line() == b""
    finally:
        home.ask(lambda link: change(link, "carol-demo"))


def test_wrong_passwords_and_unknown_users_are_answered_alike(home: House) -> None:
    said: dict[str, set[bytes]] = {"imap": set(), "pop3": set(), "submission": set()}
    for user in (f"bob@{DOMAIN}", f"nobody@{DOMAIN}", "bob@elsewhere.example"):
        with home.wire("imap") as imap, home.wire("pop3") as pop3, home.wire("submission") as smtp:
            said["imap"].add(imap.imap(f"LOGIN {user} wrong-password".encode())[-1])
            pop3.pop3(f"USER {user}".encode())
            said["pop3"].add(pop3.pop3(b"PASS wrong-password"))
            said["submission"].add(smtp.smtp(b"AUTH PLAIN " + base64.b64encode(f"\0{user}\0wrong-one".encode())))
    assert all(len(answers) == 1 for answers in said.values()), said
    assert said["imap"].pop().startswith(b"x NO [AUTHENTICATIONFAILED]")
    assert said["pop3"].pop().startswith(b"-ERR [AUTH]")
    assert said["submission"].pop().startswith(b"535 5.7.8")


# --- Too much --------------------------------------------------------------------------------------------------------


def test_a_mailbox_over_its_quota_takes_nothing_and_gives_everything(home: House) -> None:
    async def limit(link: CoreLink, octets: int) -> None:
        request = UpdateAccountRequest(address=f"carol@{DOMAIN}", quota_octets=octets)
        await link.execute(methods.UPDATE_ACCOUNT, request)

    home.ask(lambda link: limit(link, 1))
    try:
        with home.wire("smtp") as smtp, home.imap("carol", "INBOX") as imap:
            assert deliver(smtp, "carol").startswith(b"452 4.2.2")
            assert deliver(smtp, "bob").startswith(b"250")  # other clients are not affected
            assert append(imap, message()).startswith(b"x NO [OVERQUOTA]")
            assert imap.imap(b"FETCH 1 BODY.PEEK[]")[-1].startswith(b"x OK")
    finally:
        home.ask(lambda link: limit(link, 0))
    with home.wire("smtp") as smtp:
        assert deliver(smtp, "carol").startswith(b"250")


def test_an_oversize_message_is_refused_before_it_is_sent_and_after(home: House) -> None:
    with home.wire("smtp") as smtp:
        assert smtp.smtp(b"MAIL FROM:<a@example.org> SIZE=99999999999").startswith(b"552 5.3.4")
        refused = deliver(smtp, "bob", octets=message("too large", 51 * MIB))
        assert refused.startswith(b"552 5.3.4"), refused
        assert deliver(smtp, "bob").startswith(b"250")
    with home.imap("bob", "INBOX") as imap:
        assert imap.imap(b"APPEND INBOX {99999999999}")[-1].startswith((b"x NO [TOOBIG]", b"x BAD"))
        assert imap.imap(b"APPEND INBOX {60000000}")[-1].startswith(b"x NO [TOOBIG]")
        assert imap.imap(b"NOOP")[-1].startswith(b"x OK")
    assert b"too large" not in subjects(home, "bob")


@pytest.mark.parametrize("protocol", ["smtp", "submission", "imap", "pop3"])
def test_an_endless_line_ends_the_line_or_the_connection_never_the_memory(home: House, protocol: str) -> None:
    watched = {name: home.processes()[name] for name in ("smtp", "imap", "pop3", "core")}
    with Memory(watched) as memory, home.wire(protocol) as wire:
        sent, ended = 0, False
        while sent < 64 * MIB and not ended:
            try:
                wire.send(b"A" * MIB)
            except OSError:
                ended = True
            sent += MIB
        answer = b""
        try:
            answer = wire.line()
        except OSError:
            ended = True
        assert ended or answer.startswith((b"500", b"421", b"* B", b"-ERR", b"* BYE")) or not answer
    assert max(memory.grown().values()) < 24, memory.grown()


def flood(wire: Wire, mebibytes: int) -> bool:
    """Send `mebibytes`; returns whether the server ended the connection."""
    try:
        for _ in range(mebibytes):
            wire.send(b"A" * MIB)
    except OSError:
        return True
    return False


@pytest.mark.parametrize("logged_in", [False, True])
def test_an_endless_literal_is_refused_or_thrown_away(home: House, logged_in: bool) -> None:
    """RFC 7888 4: a non-synchronising literal that is too large is read and dropped, or the connection is ended."""
    watched = {"imap": home.processes()["imap"], "core": home.processes()["core"]}
    command = b"APPEND INBOX" if logged_in else b"LOGIN"
    with Memory(watched) as memory:
        with home.imap("bob") if logged_in else home.wire("imap") as wire:
            assert wire.imap(command + b" {900000000}")[-1].startswith((b"x NO", b"x BAD"))
            assert wire.imap(b"NOOP")[-1].startswith(b"x OK")
            wire.send(b"x " + command + b" {900000000+}\r\n")
            flood(wire, 200)
        with home.imap("bob") if logged_in else home.wire("imap") as wire:
            wire.send(b"x " + command + b" {%d+}\r\n" % (60 * MIB))
            if not flood(wire, 60):
                wire.send(b"\r\n")
                answer = wire.until(b"x")[-1]
                assert answer.startswith((b"x NO", b"x BAD", b"* BYE")), answer
    assert max(memory.grown().values()) < 24, memory.grown()


def test_clients_that_stop_reading_cost_little(home: House) -> None:
    with home.wire("smtp") as smtp:
        for _ in range(4):
            assert deliver(smtp, "bob", octets=message("large", 8 * MIB)).startswith(b"250")
    watched = {name: home.processes()[name] for name in ("imap", "pop3", "core")}
    with Memory(watched) as memory:
        wires = [home.imap("bob", "INBOX") for _ in range(6)]
        for wire in wires:
            wire.send(b"f FETCH 1:* (BODY.PEEK[])\r\n" * 4)
        lazy = home.pop3("bob")
        lazy.send(b"".join(b"RETR %d\r\n" % number for number in range(1, 9)))
        time.sleep(4)
        for wire in (*wires, lazy):
            wire.__exit__()
    grown = memory.grown()
    assert grown["imap"] < 96 and grown["pop3"] < 48 and grown["core"] < 96, grown
    with home.imap("bob", "INBOX") as wire:
        wire.imap(b"STORE 1:* +FLAGS.SILENT (\\Deleted)")
        assert wire.imap(b"EXPUNGE")[-1].startswith(b"x OK")


# --- Junk -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "command", "answer"),
    [("smtp", b"NOOP\r\n", b"250"), ("imap", b"a NOOP\r\n", b"a OK"), ("pop3", b"CAPA\r\n", b"+OK")],
)
def test_a_half_closed_connection_still_gets_its_answer(
    home: House, protocol: str, command: bytes, answer: bytes
) -> None:
    with home.wire(protocol) as wire:
        wire.send(command)
        wire.socket.shutdown(socket.SHUT_WR)
        lines = []
        while line := wire.line():
            lines.append(line)
        assert any(line.startswith(answer) for line in lines), lines  # then the connection ends, and does not hang


def test_octets_that_are_no_utf_8_are_an_error_and_no_more(home: House) -> None:
    with home.wire("smtp") as smtp:
        assert smtp.smtp(b"MAIL FROM:<\xff\xfe@example.org>")[:1] == b"5"
        assert smtp.smtp(b"MAIL FROM:<a@example.org> SMTPUTF8")[:3] == b"250"
        assert smtp.smtp(b"RCPT TO:<\xc3\x28@example.test>")[:1] == b"5"
        assert smtp.smtp(b"\xff\xff\xff")[:1] == b"5"
        assert smtp.smtp(b"NOOP").startswith(b"250")
    with home.imap("bob") as imap:
        for command in (b'SELECT "\xff\xfe"', b"\xff\xff", b'SEARCH SUBJECT "\xff"', b'CREATE "&broken-"'):
            assert imap.imap(command)[-1].startswith((b"x BAD", b"x NO")), command
        assert imap.imap(b"NOOP")[-1].startswith(b"x OK")
    with home.wire("pop3") as pop3:
        assert pop3.pop3(b"\xff\xff").startswith(b"-ERR")
        pop3.pop3(b"USER \xff\xfe")
        assert pop3.pop3(b"PASS \xff").startswith(b"-ERR")
        assert pop3.pop3(b"CAPA").startswith(b"+OK")


JUNK = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
    b"\r\n" * 500,
    b"a" * 3_000 + b"\r\n",
    b"\0" * 2_000 + b"\r\n",
    b'a LOGIN "' + b"\\" * 900 + b"\r\n",
    b"a FETCH " + b"(" * 5_000 + b"\r\n",
    b"a SEARCH " + b"NOT " * 3_000 + b"ALL\r\n",
    b"MAIL FROM:<" + b"a" * 900 + b"@" + b"b." * 400 + b">\r\n",
    b"AUTH PLAIN " + b"=" * 900 + b"\r\n",
    b"a APPEND INBOX {5}\r\nhello\r\n",
    b"BDAT 99999 LAST\r\n" + b"x" * 500,
)


def hammer(home: House, protocol: str, seed: int, rounds: int, greetings: list[bytes]) -> None:
    """Connect `rounds` times, and send JUNK and random octets each time."""
    chance = random.Random(seed)
    for _ in range(rounds):
        try:
            with Wire(home.base + {"smtp": 25, "imap": 143, "pop3": 110}[protocol], seconds=5) as wire:
                greetings.append(wire.line())
                for _ in range(chance.randint(1, 6)):
                    wire.send(chance.choice(JUNK) if chance.random() < 0.7 else secrets.token_bytes(2_000))
                if chance.random() < 0.5:
                    wire.line()
        except OSError:
            pass  # the server may end the connection


def test_two_hundred_clients_of_junk_leave_the_gateways_as_they_were(home: House) -> None:
    before = home.processes()
    watched = {name: before[name] for name in ("smtp", "imap", "pop3", "core")}
    greetings: list[bytes] = []
    clients = [("smtp", "imap", "pop3")[number % 3] for number in range(200)]
    for warm in ("smtp", "imap", "pop3"):
        hammer(home, warm, 0, 3, [])
    with Memory(watched) as memory:
        threads = [
            threading.Thread(target=hammer, args=(home, protocol, seed, 3, greetings))
            for seed, protocol in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive(), "a connection hangs"
    assert len(greetings) == 600
    assert all(greeting.startswith((b"220", b"* OK", b"+OK")) for greeting in greetings), set(greetings)
    assert max(memory.grown().values()) < 48, memory.grown()
    assert {name: home.processes()[name].pid for name in watched} == {name: watched[name].pid for name in watched}
    began = time.monotonic()
    with home.imap("bob", "INBOX"):
        assert time.monotonic() - began < 5


def test_nothing_was_damaged(home: House) -> None:
    """After all tests above, every invariant of the store and of the queue holds."""
    engine = create_engine(f"sqlite:///{home.directory / 'store.db'}")
    try:
        with engine.connect() as tx:
            assert [*check_store(tx), *check_queue(tx)] == []
    finally:
        engine.dispose()
