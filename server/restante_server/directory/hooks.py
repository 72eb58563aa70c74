"""The interface through which the security log and the metrics observe logins."""

from __future__ import annotations


class LoginObserver:
    """The default observer, which does nothing."""

    def failed(self, protocol: str, reason: str, name: str, client_address: str) -> None:
        """A login by `protocol` (imap, pop3, smtp or api) was refused; `name` is any text."""

    def close(self) -> None:
        """Release the observer's resources at the end of the process."""
