"""The Sender Rewriting Scheme, judged by postsrsd where it is installed."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path as File

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restante_mail.envelope.paths import MAX_LOCAL_PART_OCTETS, BadPath, Path, parse_path
from restante_mail.envelope.srs import LIFETIME_DAYS, BadSrs, Rewriter, is_rewritten
from tests.harness.requirements import program

DAY = 86_400
NOW = 1_790_000_000.0
OURS = "forwarder.example"
SECRET = b"not known to anybody else"
srs = Rewriter([SECRET])


def rewritten(address: str, now: float = NOW) -> Path:
    made = srs.rewritten(parse_path(address), OURS, now)
    assert made is not None
    return made


def original(local_part: str, now: float = NOW) -> Path:
    found = srs.original(local_part, now)
    assert isinstance(found, Path)
    return found


@pytest.mark.parametrize(
    "address",
    [
        "dave@example.org",
        "Dave.Jones+list@Example.ORG",
        "dave=example.net@example.org",
        "srs0@example.org",
        '"a b"@example.org',
        "dave@[192.0.2.1]",
        "jürgen@example.org",
    ],
)
def test_a_path_comes_back(address: str) -> None:
    made = rewritten(address)
    assert made.domain == OURS and made.local_part.startswith("SRS0=")
    assert parse_path(str(made)) == made
    for spelled in (made.local_part, made.local_part.lower() if address.isascii() else made.local_part):
        back = original(spelled)
        assert back.key == parse_path(address).key
    assert original(made.local_part).local_part == parse_path(address).local_part


def test_a_domain_beyond_ascii_is_written_in_a_labels() -> None:
    assert "=xn--bcher-kva.example=dave" in rewritten("dave@bücher.example").local_part


def test_a_path_of_another_forwarder_goes_back_to_that_one() -> None:
    theirs = "SRS0=abcd=Y2=example.org=dave@first.example"
    second = rewritten(theirs)
    assert second.local_part.startswith("SRS1=") and "=first.example==abcd=Y2=example.org=dave" in second.local_part
    assert str(srs.original(second.local_part, NOW)) == theirs
    third = Rewriter([b"another"]).rewritten(Path(second.local_part, "second.example"), OURS, NOW)
    assert third is not None and len(third.local_part) == len(second.local_part)  # no path grows with each forwarder
    assert str(Rewriter([b"another"]).original(third.local_part, NOW)) == theirs


@pytest.mark.parametrize("separator", "+-=")
def test_all_separators_are_understood(separator: str) -> None:
    theirs = f"srs0{separator}abcd=Y2=example.org=dave@first.example"
    back = original(rewritten(theirs).local_part)
    assert back.key == parse_path(theirs).key
    assert is_rewritten(f"SRS1{separator}x") and not is_rewritten(f"SRS2{separator}x") and not is_rewritten("SRS0x")


def test_an_old_path_is_refused() -> None:
    made = rewritten("dave@example.org").local_part
    assert original(made, NOW + LIFETIME_DAYS * DAY).domain == "example.org"
    for moment in (NOW + (LIFETIME_DAYS + 1) * DAY, NOW - 2 * DAY, NOW + 900 * DAY):
        with pytest.raises(BadSrs) as refused:
            srs.original(made, moment)
        assert refused.value.problem == f"is older than {LIFETIME_DAYS} days"


def test_every_change_is_found() -> None:
    made = rewritten("dave@example.org").local_part
    for at, old in enumerate(made[5:], 5):
        new = "x" if old.lower() != "x" else "y"
        with pytest.raises(BadSrs):
            srs.original(made[:at] + new + made[at + 1 :], NOW)
    for bad in ("", "SRS0=", "SRS0=a=b=c", "SRS1=a=b", "SRS0====", "SRS1===", "SRS0=" + "=" * 200, "dave"):
        with pytest.raises(BadSrs):
            srs.original(bad, NOW)
    _, digest, rest = made.split("=", 2)
    with pytest.raises(BadSrs):  # a shorter hash would be easier to guess
        srs.original(f"SRS0={digest[:4]}={rest}", NOW)


def test_an_older_secret_still_reads_and_the_first_one_writes() -> None:
    made = rewritten("dave@example.org")
    both = Rewriter([b"new", SECRET])
    assert str(both.original(made.local_part, NOW)) == "dave@example.org"
    newer = both.rewritten(parse_path("dave@example.org"), OURS, NOW)
    assert newer is not None
    with pytest.raises(BadSrs):
        srs.original(newer.local_part, NOW)


def test_a_path_that_would_be_too_long_is_not_rewritten() -> None:
    long = "x" * (MAX_LOCAL_PART_OCTETS - len("SRS0=hhhhhhhh=dd=example.org="))
    assert srs.rewritten(Path(long, "example.org"), OURS, NOW) is not None
    assert srs.rewritten(Path(long + "x", "example.org"), OURS, NOW) is None


@pytest.mark.parametrize("address", ["x" * 240 + "@example.org", "j\u00fcrgen@example.org", '"a b"@example.org'])
def test_the_short_form_has_a_key_for_a_path_of_any_length(address: str) -> None:
    path = parse_path(address)
    made, kept = srs.short(path, OURS, NOW)
    assert len(made.local_part) == 34 and made.domain == OURS and is_rewritten(made.local_part)
    assert parse_path(str(made)) == made
    for spelled in (made.local_part, made.local_part.lower(), made.local_part.upper()):
        assert srs.original(spelled, NOW) == kept
    assert srs.short(path, "other.example", NOW + DAY)[1] == kept  # one key, however often and where it is used
    assert srs.short(parse_path("y@example.org"), OURS, NOW)[1] != kept


def test_another_forwarder_sends_a_report_about_a_short_form_back() -> None:
    made, kept = srs.short(parse_path("dave@example.org"), OURS, NOW)
    second = Rewriter([b"another"])
    theirs = second.rewritten(made, "second.example", NOW)
    assert theirs is not None and theirs.local_part.startswith("SRS1=") and len(theirs.local_part) <= 64
    back = second.original(theirs.local_part, NOW)
    assert isinstance(back, Path) and srs.original(back.local_part, NOW) == kept


def test_a_short_form_is_proven_and_grows_old() -> None:
    made = srs.short(parse_path("dave@example.org"), OURS, NOW)[0].local_part
    for at, old in enumerate(made[5:], 5):
        new = "x" if old.lower() != "x" else "y"
        with pytest.raises(BadSrs):
            srs.original(made[:at] + new + made[at + 1 :], NOW)
    with pytest.raises(BadSrs, match="older than"):
        srs.original(made, NOW + (LIFETIME_DAYS + 1) * DAY)
    _, digest, day, _, key = made.split("=")
    for moved in (f"SRS0={digest}={day}={key[:8]}={key[8:]}", f"SRS0={digest}={day}=={key[:-1]}={key[-1]}"):
        with pytest.raises(BadSrs):  # the hash of one form proves no other
            srs.original(moved, NOW)


@settings(max_examples=200)
@given(st.text(max_size=60), st.floats(min_value=0, max_value=4e9))
def test_whatever_comes_is_read_or_refused(text: str, now: float) -> None:
    for local_part in (text, "SRS0=" + text, "srs1+" + text):
        with pytest.raises(BadSrs):
            srs.original(local_part, now)
        try:
            path = parse_path(f"{local_part}@example.org")
        except BadPath:
            continue
        made = srs.rewritten(path, OURS, now)
        if made is not None:
            assert parse_path(str(made)).key == made.key
            if not is_rewritten(path.local_part):  # a path that somebody else has garbled has no way back
                assert original(made.local_part, now).key == path.key


# --- postsrsd -----------------------------------------------------------------------------------------------------


class Postsrsd:
    """The lookup tables of a running postsrsd."""

    def __init__(self, ports: tuple[int, int]) -> None:
        self._ports = ports

    def ask(self, table: int, address: str) -> str:
        """The rewritten address, or "" for none. Table 0 writes, 1 reads."""
        with socket.create_connection(("127.0.0.1", self._ports[table]), timeout=5) as line:
            line.sendall(f"get {address}\n".encode())
            code, _, text = line.recv(4_096).decode().rstrip("\n").partition(" ")
        return text if code == "200" else ""


@pytest.fixture(scope="module")
def postsrsd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postsrsd]:
    """postsrsd with our secret, and hashes as long as ours."""
    directory: File = tmp_path_factory.mktemp("postsrsd")
    secret = directory / "secret"
    secret.write_bytes(SECRET + b"\n")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = (one.getsockname()[1], two.getsockname()[1])
    command = [
        str(program("postsrsd")),
        f"-s{secret}",
        f"-d{OURS}",
        "-n8",
        "-N8",
        "-4",
        "-l127.0.0.1",
        f"-f{ports[0]}",
        f"-r{ports[1]}",
    ]
    process = subprocess.Popen(command)
    try:
        for _ in range(100):
            try:
                Postsrsd(ports).ask(0, "x@example.org")
                break
            except OSError:
                time.sleep(0.05)
        yield Postsrsd(ports)
    finally:
        process.terminate()
        process.wait(10)


ADDRESSES = (
    "dave@example.org",
    "Dave.Jones@Example.org",
    "dave=x@example.org",
    "SRS0=abcd=Y2=example.org=dave@first.example",
    "SRS0+abcd=Y2=example.org=dave@first.example",
    "SRS1=abcd=first.example==efgh=Y2=example.org=dave@second.example",
)


@pytest.mark.needs("postsrsd")
@pytest.mark.parametrize("address", ADDRESSES)
def test_postsrsd_reads_what_we_write_and_we_read_what_it_writes(postsrsd: Postsrsd, address: str) -> None:
    now = time.time()
    ours, theirs = str(rewritten(address, now)), postsrsd.ask(0, address)
    assert ours.lower() == theirs.lower()
    back = postsrsd.ask(1, ours)
    assert back.lower() == str(srs.original(parse_path(theirs).local_part, now)).lower() != ""


@pytest.mark.needs("postsrsd")
def test_postsrsd_refuses_what_we_refuse(postsrsd: Postsrsd) -> None:
    made = str(rewritten("dave@example.org", time.time()))
    for bad in (made.replace("dave", "eve"), str(rewritten("dave@example.org", time.time() - 30 * DAY))):
        assert postsrsd.ask(1, bad) == ""
        with pytest.raises(BadSrs):
            srs.original(parse_path(bad).local_part, time.time())
