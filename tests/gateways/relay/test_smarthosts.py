"""Mail by configured servers: which one, over which TLS, with which login, and from which address."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from restante_gateways.relay.configured import LocalEnd, Routes, Sources, sending_domain
from restante_process.config import Smarthost, Source
from tests.gateways.relay.conftest import running
from tests.harness.certificates import Authority, Issued
from tests.harness.dns_server import dns_server
from tests.harness.outbound_queue import OutboundQueue
from tests.harness.smtp_peer import EXTENSIONS, smtp_peer

BOB = "bob@example.net"
SMART = "smart.example"
USER, PASSWORD = "relay@example.test", "s3cret=,ü"
Outcomes = list[tuple[str, str]]


@pytest.fixture
def issued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Issued:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.pem))
    return authority.issue(SMART)


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    file = tmp_path / "secret"
    file.write_text(PASSWORD + "\nsecond line\n")
    return str(file)


async def sent(
    port: int, core: OutboundQueue | None = None, zone: str = f"{SMART} A 127.0.0.1", **keys: Any
) -> tuple[Outcomes, str]:
    """The outcomes of one message by a smarthost with these keys, and the first diagnostic."""
    core = core or OutboundQueue()
    smarthost = Smarthost(**{"host": SMART, "port": port, "recipient_domains": ("*",), **keys})
    async with dns_server(zone) as dns, running(core, {}, smarthosts={"smart": smarthost}, nameservers=(dns.address,)):
        lease = core.put(BOB)
        return await core.outcomes(lease), core.reports[lease][0].diagnostic


# --- Which one ------------------------------------------------------------------------------------------------------


def test_the_recipients_domain_decides_before_the_senders() -> None:
    routes = Routes(
        {"routed.example": "r.example"},
        {
            "one": Smarthost("one.example", recipient_domains=("Bücher.example", "b.example.")),
            "two": Smarthost("two.example", sender_domains=("example.test",), tls="implicit"),
            "rest": Smarthost("rest.example", 2525, recipient_domains=("*",)),
        },
        25,
    )

    def host(destination: str, reverse_path: str = "x@example.org") -> str:
        route = routes.find(destination, sending_domain(reverse_path))
        assert route is not None
        return f"{route.host}:{route.port}"

    assert host("routed.example", "a@example.test") == "r.example:25"
    assert host("xn--bcher-kva.example", "a@example.test") == "one.example:587"
    assert host("B.example") == "one.example:587"
    assert host("c.example", "a@Example.TEST") == "two.example:465"
    assert host("c.example", "") == "rest.example:2525"
    assert Routes({}, {}, 25).find("c.example", "") is None
    with pytest.raises(ValueError, match=r"relay\.smarthosts\.x\.sender_domains: 'a b'"):
        Routes({}, {"x": Smarthost("h", sender_domains=("a b",))}, 25)


# --- Over which TLS -------------------------------------------------------------------------------------------------


async def test_required_tls_is_verified(issued: Issued) -> None:
    async with smtp_peer(tls=issued.server()) as peer:
        assert await sent(peer.port) == ([("relayed", "2.0.0")], "250 2.0.0 taken")
        assert peer.messages[0].secured
        ends, said = await sent(peer.port, host="other.example", zone="other.example A 127.0.0.1")
        assert ends == [("deferred", "4.7.5")] and "certificate" in said
    async with smtp_peer() as clear:
        assert (await sent(clear.port))[0] == [("deferred", "4.7.4")]
        assert not clear.messages


async def test_implicit_tls_comes_first_and_is_verified(issued: Issued) -> None:  # RFC 8314 3.3
    async with smtp_peer(tls=issued.server(), implicit=True) as peer:
        assert (await sent(peer.port, tls="implicit"))[0] == [("relayed", "2.0.0")]
        assert peer.messages[0].secured
        ends, said = await sent(peer.port, tls="implicit", host="o.example", zone="o.example A 127.0.0.1")
        assert ends == [("deferred", "4.7.5")] and "certificate" in said
    async with smtp_peer() as clear:
        assert (await sent(clear.port, tls="implicit"))[0] == [("deferred", "4.7.5")]


@pytest.mark.parametrize(("mode", "secured"), [("none", False), ("opportunistic", True)])
async def test_the_other_modes_of_tls(tmp_path: Path, mode: str, secured: bool) -> None:
    untrusted = Authority(tmp_path).issue("whoever.example")
    async with smtp_peer(tls=untrusted.server()) as peer:
        assert (await sent(peer.port, tls=mode))[0] == [("relayed", "2.0.0")]
        assert peer.messages[0].secured == secured


# --- With which login -----------------------------------------------------------------------------------------------


class Mailbox:
    """The messages of an aiosmtpd server."""

    def __init__(self) -> None:
        self.logins: list[object] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.logins.append((session.auth_data, session.ssl is not None))
        return "250 2.0.0 taken"


@pytest.mark.parametrize("mechanism", ["any", "PLAIN", "LOGIN"])
async def test_a_login_at_another_server(issued: Issued, secret_file: str, mechanism: str) -> None:  # RFC 4954
    box = Mailbox()

    def authenticate(server: SMTP, session: Session, envelope: Envelope, name: str, data: object) -> AuthResult:
        assert isinstance(data, LoginPassword)
        good = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=good, handled=False, auth_data=name)

    def serve() -> SMTP:
        return SMTP(
            box, tls_context=issued.server(), require_starttls=True, auth_required=True, authenticator=authenticate
        )

    server = await asyncio.get_running_loop().create_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        ends, _ = await sent(port, user=USER, secret_file=secret_file, mechanism=mechanism)
        assert ends == [("relayed", "2.0.0")]
        assert box.logins == [("LOGIN" if mechanism == "LOGIN" else "PLAIN", True)]
        Path(secret_file).write_text("wrong")
        ends, said = await sent(port, user=USER, secret_file=secret_file, mechanism=mechanism)
        assert ends == [("deferred", "4.7.8")] and "535" in said and USER not in said


def scram_server(password: str, seen: list[str], *, lies: bool = False) -> Callable[[str], str | None]:
    """The replies of a server to AUTH SCRAM-SHA-256 (RFC 5802 3)."""
    salt, first, bare = b"salt of the server", b"", b""

    def say(event: str) -> str | None:
        nonlocal first, bare
        if event.upper().startswith("AUTH SCRAM-SHA-256 "):
            bare = base64.b64decode(event.split()[2])[3:]
            first = bare.split(b",r=")[1]
            first = b"r=" + first + b"more,s=" + base64.b64encode(salt) + b",i=4096"
            return "334 " + base64.b64encode(first).decode()
        if not bare or event in ("greeting", "content"):
            return None
        if event == "":
            bare = b""
            return "235 2.7.0 ok"
        if event == "QUIT":
            return None
        final = base64.b64decode(event, validate=True)
        without, _, proof = final.rpartition(b",p=")
        signed = b",".join((bare, first, without))
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4_096)
        stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
        mask = hmac.digest(stored, signed, "sha256")
        key = bytes(a ^ b for a, b in zip(mask, base64.b64decode(proof), strict=True))
        if hashlib.sha256(key).digest() != stored:
            return "535 5.7.8 no"
        seen.append(bare.split(b",")[0].decode())
        signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        return "334 " + base64.b64encode(b"v=" + base64.b64encode(b"no" if lies else signature)).decode()

    return say


async def test_scram_proves_both_sides(issued: Issued, secret_file: str) -> None:  # RFC 7677
    seen: list[str] = []
    offered = (*EXTENSIONS, "AUTH PLAIN SCRAM-SHA-256")
    async with smtp_peer(tls=issued.server(), extensions=offered) as peer:
        peer.script = scram_server(PASSWORD, seen)
        assert (await sent(peer.port, user=USER, secret_file=secret_file))[0] == [("relayed", "2.0.0")]
        assert seen == ["n=" + USER]
        peer.script = scram_server("another password", seen)
        assert (await sent(peer.port, user=USER, secret_file=secret_file))[0] == [("deferred", "4.7.8")]
        peer.script = scram_server(PASSWORD, seen, lies=True)
        ends, said = await sent(peer.port, user=USER, secret_file=secret_file)
        assert ends == [("deferred", "4.7.8")] and "proven" in said
        assert len(peer.messages) == 1


async def test_an_access_token(issued: Issued, secret_file: str) -> None:
    async with smtp_peer(tls=issued.server(), extensions=(*EXTENSIONS, "AUTH XOAUTH2")) as peer:
        peer.replies["AUTH"] = ["334 eyJzdGF0dXMiOiI0MDEifQ==", "235 2.7.0 ok"]
        peer.script = lambda event: "535 5.7.8 expired" if event == "" else None
        keys: dict[str, Any] = {"user": USER, "secret_file": secret_file, "mechanism": "XOAUTH2"}
        assert (await sent(peer.port, **keys))[0] == [("deferred", "4.7.8")]
        assert (await sent(peer.port, **keys))[0] == [("relayed", "2.0.0")]


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ("535 5.7.8 no", "4.7.8"),
        ("454 4.7.0 later", "4.7.8"),
        ("334 %%%", "4.7.8"),
        ("334 ", "4.7.8"),
        ("421 4.3.2 bye DROP", "4.7.8"),
        ("HANG", "4.4.2"),
    ],
)
async def test_a_failed_login_defers_and_is_not_repeated_at_once(
    issued: Issued, secret_file: str, auth: str, said: str
) -> None:
    core = OutboundQueue()
    async with smtp_peer(tls=issued.server(), extensions=(*EXTENSIONS, "AUTH PLAIN")) as peer:
        peer.replies["AUTH"] = auth
        ones = [core.put(f"one{number}@example.net") for number in range(5)]
        assert (await sent(peer.port, core, user=USER, secret_file=secret_file))[0] == [("deferred", said)]
        for one in ones:
            assert await core.outcomes(one) == [("deferred", said)]
        assert sum(command.startswith("AUTH") for command in peer.commands) <= 4  # the connections of that moment
        assert not peer.messages


async def test_a_secret_goes_to_nobody_else(tmp_path: Path, secret_file: str) -> None:
    untrusted = Authority(tmp_path).issue(SMART)
    async with smtp_peer(tls=untrusted.server(), extensions=(*EXTENSIONS, "AUTH PLAIN")) as peer:
        assert (await sent(peer.port, user=USER, secret_file=secret_file))[0] == [("deferred", "4.7.5")]
        assert not any(command.startswith("AUTH") for command in peer.commands)
    async with smtp_peer(extensions=(*EXTENSIONS, "AUTH PLAIN")) as peer:  # on this machine the path is safe
        keys: dict[str, Any] = {"user": USER, "secret_file": secret_file, "tls": "none"}
        assert (await sent(peer.port, **keys))[0] == [("relayed", "2.0.0")]


@pytest.mark.parametrize("content", [None, b"", b"\nx", b"\xff\n", b"x" * 20_000, b"a\0b\n"])
async def test_a_secret_that_cannot_be_read_defers(issued: Issued, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "other"
    if content is not None:
        file.write_bytes(content)
    async with smtp_peer(tls=issued.server(), extensions=(*EXTENSIONS, "AUTH PLAIN")) as peer:
        ends, said = await sent(peer.port, user=USER, secret_file=str(file))
    assert ends == [("deferred", "4.3.5")] and str(tmp_path) not in said


async def test_a_server_without_the_mechanism_defers(issued: Issued, secret_file: str) -> None:
    async with smtp_peer(tls=issued.server()) as peer:
        ends, said = await sent(peer.port, user=USER, secret_file=secret_file)
        assert ends == [("deferred", "4.7.8")] and "AUTH" in said


# --- From which address ---------------------------------------------------------------------------------------------


def test_a_local_end_may_have_one_family() -> None:
    both, four, six, any_ = LocalEnd("", "1.2.3.4", "::5"), LocalEnd("", "1.2.3.4"), LocalEnd("", "", "::5"), LocalEnd()
    assert [each.address("8.8.8.8") for each in (both, four, six, any_)] == ["1.2.3.4", "1.2.3.4", None, ""]
    assert [each.address("2001:db8::1") for each in (both, four, six, any_)] == ["::5", None, "::5", ""]


def test_the_senders_domain_finds_the_local_end() -> None:
    sources = Sources.of({"a": Source(("Bücher.example",), hostname="a"), "b": Source(("*",), hostname="b")})
    assert sources.find(sending_domain("x@BÜCHER.example")).name == "a"
    assert sources.find(sending_domain("x@other.example")).name == sources.find("").name == "b"
    assert Sources.of({}).find("x.example") == LocalEnd()


async def test_mail_leaves_from_the_address_of_its_domain() -> None:
    core = OutboundQueue()
    sources = {"ours": Source(("example.test",), ipv4="127.0.0.77", hostname="out.example.test")}
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}, sources=sources):
        assert await core.outcomes(core.put(BOB)) == [("relayed", "2.0.0")]
        assert await core.outcomes(core.put(BOB, reverse_path="x@other.example")) == [("relayed", "2.0.0")]
        assert [one.address for one in peer.messages] == ["127.0.0.77", "127.0.0.1"]
        assert [command for command in peer.commands if command.startswith("EHLO")] == [
            "EHLO out.example.test",
            "EHLO mx.example.test",
        ]


async def test_a_source_without_a_family_passes_its_servers_over() -> None:
    core = OutboundQueue()
    zone = "example.net MX 1 mx.example.net.\nmx.example.net AAAA ::1\nmx.example.net A 127.0.0.1\nsix.example AAAA ::1"
    async with dns_server(zone) as dns, smtp_peer() as peer:
        settings: dict[str, Any] = {
            "nameservers": (dns.address,),
            "allow_private": ("127.0.0.0/8", "::1/128"),
            "port": peer.port,
            "sources": {"all": Source(("*",), ipv4="127.0.0.78")},
        }
        async with running(core, {}, **settings):
            assert await core.outcomes(core.put(BOB)) == [("relayed", "2.0.0")]
            assert await core.outcomes(core.put("x@six.example", destination="six.example")) == [("deferred", "4.4.4")]
    assert peer.messages[0].address == "127.0.0.78"


async def test_an_address_of_another_machine_defers() -> None:
    core = OutboundQueue()
    sources = {"all": Source(("*",), ipv4="192.0.2.1")}
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}, sources=sources):
        assert await core.outcomes(core.put(BOB)) == [("deferred", "4.4.1")]
