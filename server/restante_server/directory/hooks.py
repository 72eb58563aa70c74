"""Where the security log and the metrics listen to logins."""

from __future__ import annotations


class LoginObserver:
    """It does nothing by itself."""

    def failed(self, protocol: str, reason: str, name: str, client_address: str) -> None:
        """A login by `protocol` (imap, pop3, smtp or api) was refused; `name` is any text."""

    def close(self) -> None:
        """The process ends."""
