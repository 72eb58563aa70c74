"""The login of the relay at a smarthost (RFC 4954). A failed login defers the mail: the configuration can be mended."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
from dataclasses import replace
from pathlib import Path

import structlog

from restante_gateways.relay import sasl
from restante_gateways.relay.commands import Offer
from restante_gateways.relay.configured import Login
from restante_gateways.relay.outcomes import Outcome, deferred, visible
from restante_gateways.relay.peer import Broken, Line
from restante_gateways.relay.replies import Answer
from restante_gateways.relay.routes import Hop
from restante_gateways.relay.sasl import LoginFailed, Mechanism
from restante_gateways.relay.transaction import Unreachable
from restante_process.addresses import is_loopback

log = structlog.get_logger("relay")

CHALLENGE = 334
MOST_STEPS = 5
MAX_SECRET_OCTETS = 10_000  # RFC 4954 4: a line of an exchange has at most 12288 octets


async def log_in(line: Line, offer: Offer, hop: Hop, login: Login) -> None:
    """Log in, over TLS or on this machine only. Raises Unreachable, after closing the connection."""
    if not line.secured and not is_loopback(hop.address):
        await line.close()
        raise _failed(deferred("4.7.11", f"{hop}: this relay logs in over TLS only"), ours=True)
    try:
        name = sasl.chosen(login.mechanism, offer.mechanisms)
        secret = await asyncio.to_thread(_secret, Path(login.secret_file))
        answer = await _exchange(line, sasl.mechanism(name, login.user, secret, os.urandom(sasl.NONCE_OCTETS)))
    except OSError as error:
        log.error("secret not read", file=login.secret_file, reason=error.strerror or str(error))
        await line.close()
        raise _failed(deferred("4.3.5", f"{hop}: this relay cannot read the secret of its login"), ours=True) from None
    except LoginFailed as error:
        await line.close()
        raise _failed(deferred("4.7.8", f"{hop}: {error}"), ours=True) from None
    except Broken as broken:
        raise _failed(deferred("4.4.2", f"{hop}: login: {broken}")) from None
    if not answer.good:
        await line.close()
        said = " ".join(answer.text.split("\n"))
        text = visible(f"the login of this relay was refused: {answer.code} {said}")
        raise _failed(Outcome(False, False, "4.7.8", text, hop.host), ours=answer.code >= 500)


def _failed(outcome: Outcome, *, ours: bool = False) -> Unreachable:
    """The server is left alone for a while: many failed logins may lock the account."""
    return Unreachable(replace(outcome, ours=ours), leave_alone=True)


async def _exchange(line: Line, mechanism: Mechanism) -> Answer:
    """The last reply of the exchange. Raises LoginFailed, Broken."""
    first = mechanism.first()
    words = [b"AUTH", mechanism.name.encode()]
    if first is not None:
        words.append(base64.b64encode(first) or b"=")
    answer = await line.command(*words)
    for _ in range(MOST_STEPS):
        if answer.code != CHALLENGE:
            if answer.good and not mechanism.finished:
                raise LoginFailed("the server ended the login before its proof")
            return answer
        try:
            challenge = base64.b64decode(answer.text.encode("ascii", "replace"), validate=True)
            response = await asyncio.to_thread(mechanism.answer, challenge)
        except binascii.Error:
            raise LoginFailed("the server's challenge is malformed") from None
        answer = await line.command(base64.b64encode(response))
    raise LoginFailed("the server's challenges do not end")


def _secret(path: Path) -> str:
    """The first line of a file. Raises OSError."""
    with path.open("rb") as file:
        octets = file.read(MAX_SECRET_OCTETS + 1)
    line = octets.split(b"\n")[0].rstrip(b"\r")
    if not line or len(octets) > MAX_SECRET_OCTETS or b"\0" in line:
        raise OSError(f"its first line is not a secret of 1 to {MAX_SECRET_OCTETS} octets")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise OSError("its first line is not UTF-8") from None
