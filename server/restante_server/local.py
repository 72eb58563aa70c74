"""The access of this machine's processes to a core: its Unix socket, and the secret of each process identity."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from restante_server.api.engine.identity import IDENTITIES

SOCKET_PATH_OCTETS = 100  # some systems cannot hold a longer path in a Unix socket's address


def process_secrets(directory: Path) -> dict[str, str]:
    """The secret of each process identity, created if it is missing. Only the owner can read the files."""
    directory.mkdir(mode=0o700, exist_ok=True)
    found = {}
    for name in IDENTITIES:
        path = directory / f"{name}.secret"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32) + "\n")
        found[name] = path.read_text().strip()
    return found


def socket_path(directory: Path) -> Path:
    """The path of the core's Unix socket.

    It is `DIR/core.sock`. If that path is too long, it is a socket in a fresh directory, and `DIR/core.address`
    contains its path.
    """
    path = directory / "core.sock"
    address = directory / "core.address"
    if len(os.fsencode(path)) <= SOCKET_PATH_OCTETS:
        address.unlink(missing_ok=True)
        return path
    fresh = Path(tempfile.mkdtemp(prefix="restante-")) / "core.sock"
    address.write_text(f"{fresh}\n")
    return fresh
