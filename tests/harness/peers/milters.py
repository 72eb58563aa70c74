"""opendkim and opendmarc as milters of Postfix: they sign what leaves, and judge what comes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.harness.peers.place import Place, free_port
from tests.harness.requirements import program

SELECTOR = "peer"
OPENDKIM = """\
Mode sv
Domain {domain}
Selector {selector}
KeyFile {key}
RequireSafeKeys no
Canonicalization relaxed/simple
InternalHosts {directory}/internal
AuthservID {name}
AlwaysAddARHeader yes
ResolverConfiguration {directory}/unbound.conf
Socket inet:{port}@127.0.0.1
UMask 007
Syslog no
"""
# opendkim asks by libunbound, which would begin at the root, never ask on loopback, and deny the domain test.
UNBOUND = """\
server:
  do-not-query-localhost: no
  local-zone: "test." nodefault
forward-zone:
  name: "."
  forward-addr: {nameserver}
"""
OPENDMARC = """\
AuthservID {name}
TrustedAuthservIDs {name}
IgnoreHosts {directory}/ignored
RejectFailures false
SPFIgnoreResults true
SPFSelfValidate true
Socket inet:{port}@127.0.0.1
PidFile {directory}/opendmarc.pid
Syslog false
"""


def make_key(directory: Path) -> tuple[Path, list[str]]:
    """A new RSA key of 2,048 bits: the file of its private half, and the strings of its TXT record (RFC 6376 3.6.1)."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    path = directory / "dkim.pem"
    form = serialization.PrivateFormat.TraditionalOpenSSL
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    path.chmod(0o644)  # a key of a test, for whatever user signs with it
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    base64 = b"".join(public.splitlines()[1:-1]).decode()
    return path, ["v=DKIM1; k=rsa; p=", *(base64[start : start + 200] for start in range(0, len(base64), 200))]


@contextlib.asynccontextmanager
async def milters(place: Place, key: Path) -> AsyncIterator[list[str]]:
    """Both milters, for the time of the context: their addresses in the form of `smtpd_milters`."""
    program("opendkim")
    program("opendmarc")
    directory = place.directory
    (directory / "internal").write_text("127.0.0.0/8\n")
    (directory / "ignored").write_text("192.0.2.1\n")
    (directory / "unbound.conf").write_text(UNBOUND.format(nameserver=place.nameserver))
    ports = [free_port(["127.0.0.1"]) for _ in range(2)]
    for name, text, port in (("opendkim", OPENDKIM, ports[0]), ("opendmarc", OPENDMARC, ports[1])):
        (directory / f"{name}.conf").write_text(
            text.format(
                directory=directory,
                domain=place.domain,
                name=place.name,
                selector=SELECTOR,
                key=key,
                port=port,
                nameserver=place.nameserver,
            )
        )
    async with contextlib.AsyncExitStack() as stack:
        for name, port in zip(("opendkim", "opendmarc"), ports, strict=True):
            command = ("-f", "-c" if name == "opendmarc" else "-x", directory / f"{name}.conf")
            await stack.enter_async_context(place.running(name, *command, log=f"{name}.out"))
            await place.until_open("127.0.0.1", port)
        yield [f"inet:127.0.0.1:{port}" for port in ports]
