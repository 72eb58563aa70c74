"""The session that `restante mail login` saves: server, user and the session's token, never the password."""

from __future__ import annotations

import base64
import binascii
import json
import os
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import click

ENVIRONMENT = "RESTANTE_MAIL_SESSION"


@dataclass(frozen=True, slots=True)
class SavedSession:
    """The content of the file."""

    server: str  # HOST:PORT
    user: str
    root_certificates: str = ""  # PEM; empty: the system's
    server_name: str = ""
    token: str = field(default="", repr=False)  # base64; empty: each command asks for the password

    @property
    def token_octets(self) -> bytes:
        """The octets of the token."""
        return base64.b64decode(self.token, validate=True)

    def with_token(self, token: bytes) -> SavedSession:
        """The same session with another token."""
        return replace(self, token=base64.b64encode(token).decode())


def default_path() -> Path:
    """The path of the file: $RESTANTE_MAIL_SESSION, or below the user's state directory (XDG)."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "restante" / "mail.json"


def load(path: Path) -> SavedSession | None:
    """The saved session, or None without a file. Raises click.ClickException for a file of another form."""
    try:
        saved = SavedSession(**json.loads(path.read_text(encoding="utf-8")))
        saved.token_octets  # noqa: B018 - it must be base64
    except FileNotFoundError:
        return None
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, binascii.Error):
        raise click.ClickException(f"{path} is damaged: remove it and log in again") from None
    return saved


def save(path: Path, session: SavedSession) -> None:
    """Write the file atomically, readable by its owner only. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(session), file, indent=2)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def forget(path: Path) -> None:
    """Remove the file, if it exists."""
    path.unlink(missing_ok=True)
