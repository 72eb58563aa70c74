"""Opaque octets that clients return later. Any core of the store can open them."""

from __future__ import annotations

from restante_server.api.engine.call import Call
from restante_server.directory import keys


def seal(call: Call, purpose: bytes, plain: bytes) -> bytes:
    """Sealed octets, `keys.OVERHEAD_OCTETS` longer than `plain`."""
    return call.core.directory.keys.seal(purpose, plain)


async def unseal(call: Call, purpose: bytes, sealed: bytes) -> bytes:
    """The plain octets, sealed for this purpose by any core of the store, even with a key made a moment ago.

    Raises NotSealed, which is a ValueError.
    """
    ring = call.core.directory.keys
    if not ring.knows(sealed):
        ring.replace(await call.core.db.read(keys.load))
    return ring.open(purpose, sealed)
