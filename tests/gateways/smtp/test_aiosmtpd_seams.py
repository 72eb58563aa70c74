"""What we lean on in aiosmtpd, and replace of it, is still there: an upstream release must fail here first."""

from __future__ import annotations

import inspect
import logging

import aiosmtpd
import aiosmtpd.smtp
import pytest

from restante_gateways.smtp.session import SmtpSession
from restante_gateways.smtp.verbs import VERBS

OVERRIDDEN = [
    "_handle_client", "_reset_timeout", "_timeout_cb", "connection_lost", "connection_made", "eof_received",
    "handle_exception", "push",
]  # fmt: skip


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_what_we_override_exists(name: str) -> None:
    assert callable(getattr(aiosmtpd.smtp.SMTP, name))
    assert name in vars(SmtpSession)


def test_aiosmtpd_starts_our_command_loop_and_our_timer() -> None:
    made = inspect.getsource(aiosmtpd.smtp.SMTP.connection_made)
    assert "self._handle_client()" in made
    assert "self._reset_timeout()" in made
    assert "self._original_transport is not None" in made  # else our STARTTLS would begin a second loop
    lost = inspect.getsource(aiosmtpd.smtp.SMTP.connection_lost)
    assert "self._timeout_handle.cancel()" in lost
    assert "self._handler_coroutine.cancel()" in lost


def test_the_stream_buffer_is_sized_by_the_line_limit() -> None:
    assert "limit=self.line_length_limit" in inspect.getsource(aiosmtpd.smtp.SMTP.__init__)
    assert SmtpSession.line_length_limit >= 65_536


def test_the_privates_that_starttls_touches_exist() -> None:
    import asyncio

    assert hasattr(asyncio.StreamReaderProtocol, "_replace_writer")
    reader = asyncio.StreamReader(loop=asyncio.new_event_loop())
    assert isinstance(reader._buffer, bytearray)  # type: ignore[attr-defined]
    assert hasattr(reader, "_transport")
    assert "self._transport" in inspect.getsource(asyncio.StreamWriter.transport.fget)  # type: ignore[attr-defined]


def test_every_verb_of_aiosmtpd_was_looked_at() -> None:
    theirs = {name.removeprefix("smtp_").encode() for name in dir(aiosmtpd.smtp.SMTP) if name.startswith("smtp_")}
    assert theirs <= VERBS.keys()


def test_limits_are_ours_and_not_shared() -> None:
    assert "command_size_limits" not in inspect.getsource(SmtpSession)


def test_the_version_is_the_one_that_was_read() -> None:
    assert aiosmtpd.__version__.startswith("1.4.")


def test_their_log_which_prints_addresses_is_silent() -> None:
    assert not logging.getLogger("mail.log").isEnabledFor(logging.CRITICAL)
