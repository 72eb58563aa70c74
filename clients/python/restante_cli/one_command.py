"""Sessions that a command begins for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from restante import errors
from restante.client import Client

LOG_OFF_SECONDS = 2.0  # after a failure, which may be that of the connection


@asynccontextmanager
async def for_one_command(client: Client) -> AsyncIterator[None]:
    """Log off behind the command, also behind one that fails or is interrupted.

    A failure of the command is reported, and not one to log off after it: the session then expires by itself.
    """
    try:
        yield
    except BaseException:
        with suppress(errors.RestanteError, TimeoutError):
            async with asyncio.timeout(LOG_OFF_SECONDS):
                await _log_off(client)
        raise
    await _log_off(client)


async def _log_off(client: Client) -> None:
    if not client.session.ended.is_set():
        await client.account.log_off()
