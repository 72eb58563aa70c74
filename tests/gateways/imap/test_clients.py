"""Real programs run a whole scenario each, over a real core."""

from __future__ import annotations

import asyncio
import email
import imaplib
import os
import pty
import select
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gateways.imap.conftest import Running
from tests.gateways.imap.stage import NAME, PASSWORD, Client, message
from tests.harness.requirements import program

pytestmark = [pytest.mark.end_to_end, pytest.mark.client]


async def run(*command: str | Path, stdin: bytes = b"") -> bytes:
    """The output of a program, which must succeed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        output, complaints = await process.communicate(stdin)
    assert process.returncode == 0, complaints.decode()
    return output


async def in_thread(work: Callable[[], None]) -> None:
    async with asyncio.timeout(30):
        await asyncio.to_thread(work)


async def test_imaplib(running: Running) -> None:
    endpoint = running.endpoint()

    def talk() -> None:
        with imaplib.IMAP4(endpoint.host, endpoint.port) as client:
            client.starttls(running.tls)
            client.login(NAME, PASSWORD)
            assert client.create("Projects/R&AOQ-ume")[0] == "OK"
            for number in (1, 2, 3):
                assert client.append("Projects/R&AOQ-ume", "(\\Seen)", None, message(number))[0] == "OK"
            assert client.select("Projects/R&AOQ-ume") == ("OK", [b"3"])
            assert client.search(None, "SUBJECT", '"Number 2"') == ("OK", [b"2"])
            status, found = client.fetch("1:3", "(UID RFC822)")
            parts = [part for part in found if isinstance(part, tuple)]
            assert status == "OK" and [part[1] for part in parts] == [message(n) for n in (1, 2, 3)]
            assert email.message_from_bytes(parts[1][1])["subject"] == "Number 2"
            flags = b"2 (FLAGS (\\Deleted \\Seen $Done \\Recent))"
            assert client.store("2", "+FLAGS", "(\\Deleted $Done)")[1] == [flags]
            assert client.uid("COPY", "1:2", "Archive")[0] == "OK"
            assert client.expunge() == ("OK", [b"2"])
            assert client.status("Archive", "(MESSAGES UIDNEXT)") == ("OK", [b"Archive (MESSAGES 2 UIDNEXT 3)"])
            assert client.rename("Projects/R&AOQ-ume", "Rooms")[0] == "OK"
            assert client.list('""', "R*") == ("OK", [b'(\\HasNoChildren) "/" Rooms'])
            assert client.close()[0] == "OK"
            assert client.delete("Rooms")[0] == "OK"
            assert client.namespace() == ("OK", [b'(("" "/")) NIL NIL'])
            assert client.getquotaroot("INBOX")[0] == "OK"
            assert client.noop()[0] == "OK"

    await in_thread(talk)


async def test_imaplib_over_implicit_tls(running: Running) -> None:
    endpoint = running.endpoint("imaps")

    def talk() -> None:
        with imaplib.IMAP4_SSL("localhost", endpoint.port, ssl_context=running.tls) as client:
            client.authenticate("PLAIN", lambda _: f"\0{NAME}\0{PASSWORD}".encode())
            assert client.select() == ("OK", [b"0"])

    await in_thread(talk)


async def test_imaplib_refuses_a_certificate_it_does_not_know(running: Running) -> None:
    endpoint = running.endpoint("imaps")

    def talk() -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            imaplib.IMAP4_SSL("localhost", endpoint.port, ssl_context=ssl.create_default_context())

    await in_thread(talk)


@pytest.mark.needs("curl")
async def test_curl(running: Running, tmp_path: Path) -> None:
    base = f"imap://{running.endpoint().host}:{running.endpoint().port}"
    curl = (program("curl"), "--silent", "--show-error", "--user", f"{NAME}:{PASSWORD}")
    (tmp_path / "mail").write_bytes(message(1))
    await run(*curl, "--upload-file", tmp_path / "mail", f"{base}/INBOX")
    assert b'* LIST (\\HasNoChildren) "/" INBOX' in await run(*curl, base)
    assert b"* 1 EXISTS" in await run(*curl, f"{base}/INBOX", "--request", "EXAMINE INBOX")
    assert await run(*curl, f"{base}/INBOX;UID=1") == message(1)
    assert await run(*curl, f"{base}/INBOX;MAILINDEX=1;SECTION=TEXT") == b"This is message 1.\r\n"
    assert await run(*curl, f"{base}/INBOX?SUBJECT%20Number") == b"* SEARCH 1\r\n"
    await run(*curl, f"{base}/INBOX", "--request", "STORE 1 +FLAGS \\Deleted")
    assert b"* 1 EXPUNGE" in await run(*curl, f"{base}/INBOX", "--request", "EXPUNGE")


@pytest.mark.needs("mbsync")
async def test_mbsync_both_ways(running: Running, tmp_path: Path) -> None:
    config = tmp_path / "mbsyncrc"
    local = tmp_path / "local"
    local.mkdir()
    config.write_text(
        f"""
IMAPStore there
Host {running.endpoint().host}
Port {running.endpoint().port}
User {NAME}
Pass {PASSWORD}
SSLType None
AuthMechs *

MaildirStore here
Path {local}/
Inbox {local}/INBOX
SubFolders Verbatim

Channel all
Far :there:
Near :here:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
CopyArrivalDate yes
"""
    )
    client = await Client.open(running)
    for number in (1, 2, 3):
        content = message(number)
        await client.ok(b"APPEND INBOX (\\Flagged) {%d+}\r\n%b" % (len(content), content))
    await client.ok("CREATE Work/2024")
    sync = (program("mbsync"), "--config", config, "--all")
    await run(*sync)
    arrived = [path.read_bytes() for folder in ("new", "cur") for path in (local / "INBOX" / folder).iterdir()]
    texts = sorted(octets.partition(b"\n\n")[2] for octets in arrived)  # mbsync adds a header field
    assert texts == [b"This is message %d.\n" % number for number in (1, 2, 3)]
    (local / "Work" / "2024" / "new" / "1.local").write_bytes(message(9).replace(b"\r\n", b"\n"))
    flagged = next((local / "INBOX" / "new").iterdir())
    assert flagged.name.endswith("F")
    flagged.rename(local / "INBOX" / "cur" / f"{flagged.name}T")
    await run(*sync)
    assert (await client.ok("STATUS Work/2024 (MESSAGES)")) == [b"* STATUS Work/2024 (MESSAGES 1)"]
    assert (await client.ok("STATUS INBOX (MESSAGES)")) == [b"* STATUS INBOX (MESSAGES 2)"]
    await run(*sync)  # and nothing more to do
    assert (await client.ok("STATUS INBOX (MESSAGES UIDNEXT)")) == [b"* STATUS INBOX (MESSAGES 2 UIDNEXT 4)"]


@pytest.mark.needs("fetchmail")
async def test_fetchmail(running: Running, tmp_path: Path) -> None:
    client = await Client.open(running)
    for number in (1, 2):
        content = message(number)
        await client.ok(b"APPEND INBOX {%d+}\r\n%b" % (len(content), content))
    box = tmp_path / "box"
    config = tmp_path / "fetchmailrc"
    endpoint = running.endpoint()
    config.write_text(
        f'poll {endpoint.host} service {endpoint.port} proto imap user "{NAME}" password "{PASSWORD}" '
        f'no sslcertck sslproto "" mda "cat >> {box}"\n'
    )
    config.chmod(0o600)
    await run(
        program("fetchmail"), "--fetchmailrc", config, "--pidfile", tmp_path / "pid", "--idfile", tmp_path / "ids"
    )
    taken = box.read_bytes().replace(b"\r\n", b"\n")
    assert taken.count(b"This is message 1.\n") == 1 and taken.count(b"This is message 2.\n") == 1
    assert (await client.ok("STATUS INBOX (MESSAGES)")) == [b"* STATUS INBOX (MESSAGES 0)"]


@pytest.mark.needs("mutt")
async def test_mutt(running: Running, tmp_path: Path) -> None:
    client = await Client.open(running)
    for number in (1, 2, 3):
        content = message(number)
        await client.ok(b"APPEND INBOX {%d+}\r\n%b" % (len(content), content))
    endpoint = running.endpoint()
    (tmp_path / "muttrc").write_text(
        f"""
set folder=imap://{endpoint.host}:{endpoint.port}/ spoolfile=+INBOX
set imap_user={NAME} imap_pass={PASSWORD} ssl_starttls=no ssl_force_tls=no
set confirmappend=no confirmcreate=no delete=yes quit=yes move=no wait_key=no header_cache="" postponed=+Drafts
set pager_stop=yes imap_idle=yes timeout=5 resolve=no
"""
    )
    keys = (  # read the first, flag the second, copy it to a new folder, delete the third, leave
        "<first-entry><display-message><exit><next-entry><flag-message>"
        "<copy-message><kill-line>=Kept<enter><next-entry><delete-message><sync-mailbox><quit>"
    )
    mutt = [str(program("mutt")), "-n", "-F", str(tmp_path / "muttrc"), "-e", f'push "{keys}"']
    shown = await asyncio.wait_for(asyncio.to_thread(_in_terminal, mutt, tmp_path), 30)
    assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 2)"], shown[-2000:]
    assert await client.ok("STATUS Kept (MESSAGES)") == [b"* STATUS Kept (MESSAGES 1)"]
    await client.ok("EXAMINE INBOX")
    assert await client.ok("SEARCH SEEN") == [b"* SEARCH 1"]
    assert await client.ok("SEARCH FLAGGED") == [b"* SEARCH 2"]


def _in_terminal(command: list[str], home: Path) -> bytes:
    """Run a program on a terminal to its end, and return its output."""
    terminal, its_side = pty.openpty()
    environment = {"TERM": "xterm", "HOME": str(home), "LANG": "C.UTF-8", "PATH": os.defpath}
    process = subprocess.Popen(
        command, stdin=its_side, stdout=its_side, stderr=its_side, env=environment, start_new_session=True
    )
    os.close(its_side)
    shown = b""
    try:
        while select.select([terminal], [], [], 20)[0] and (octets := os.read(terminal, 65_536)):
            shown += octets
    except OSError:
        pass  # the program has ended and closed the terminal
    finally:
        os.close(terminal)
        process.terminate()
        process.wait(5)
    return shown
