"""Listening sockets: bound by the process, or passed by systemd."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import MutableMapping
from typing import Any

Socket = socket.socket
NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})  # the machine has no IPv6
LOCALHOST = "localhost"
FIRST_ACTIVATED_FD = 3  # sd_listen_fds(3)


class CannotListen(OSError):
    """A port that cannot be served. The text names the address, the cause and a remedy."""

    def __str__(self) -> str:
        return str(self.strerror)


def bind(host: str, port: int, *, reuse_port: bool = False, backlog: int = 1024) -> list[socket.socket]:
    """Listening sockets for every address of `host`; `""` and `*` are all addresses of the machine.

    `localhost` is always 127.0.0.1 and ::1, because a client may try either first. On a machine without IPv6,
    `localhost` and all addresses are IPv4 only. With `reuse_port` several processes share the port, and the kernel
    spreads connections over them. With port 0 all addresses get the free port chosen for the first. Raises
    CannotListen, having closed all opened sockets.
    """
    everywhere = host in ("", "*")
    several = everywhere or host == LOCALHOST
    found = _addresses(host, port)
    with contextlib.ExitStack() as opened:
        sockets: list[socket.socket] = []
        for family, kind, protocol, _, address in dict.fromkeys(found):
            if port == 0 and sockets:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            try:
                listening = opened.enter_context(socket.socket(family, kind, protocol))
                _prepare(listening, reuse_port)
                listening.bind(address)
            except OSError as error:
                if several and family == socket.AF_INET6 and error.errno in NO_IPV6:
                    continue
                raise CannotListen(error.errno, f"cannot listen on {shown(address)}: {why(error)}") from None
            listening.listen(backlog)
            sockets.append(listening)
        opened.pop_all()
    return sockets


def _addresses(host: str, port: int) -> list[tuple[Any, ...]]:
    names = ["127.0.0.1", "::1"] if host == LOCALHOST else [None if host in ("", "*") else host]
    found = []
    for name in names:
        try:
            found += socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            if name != "::1":
                raise CannotListen(error.errno, f"cannot listen on {host}: {error.strerror}") from None
    return found


def shown(address: tuple[Any, ...]) -> str:
    """A TCP address in words for people."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def why(error: OSError) -> str:
    """The cause why a port cannot be served, and a remedy."""
    if error.errno == errno.EADDRINUSE:
        return "another program uses this port; end that program, or choose another port"
    if error.errno == errno.EACCES:
        return "a port below 1024 needs a privilege; start with a systemd socket or with CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have the address; choose one that it has"
    return error.strerror or str(error)


def _prepare(listening: socket.socket, reuse_port: bool) -> None:
    if listening.family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.setblocking(False)


class UnixSocket(socket.socket):
    """A listening Unix socket, with the lock that says that it is in use."""

    __slots__ = ("lock",)

    def __init__(self, lock: int) -> None:
        super().__init__(socket.AF_UNIX)
        self.lock = lock

    def close(self) -> None:
        """Close the socket, then release the lock."""
        super().close()
        lock, self.lock = self.lock, -1
        if lock >= 0:
            os.close(lock)


def bind_unix(path: str, *, backlog: int = 1024) -> socket.socket | None:
    """A listening Unix socket for the process's user and group; None if another process serves it.

    A lock on PATH.lock distinguishes a socket in use from one left over. Raises CannotListen.
    """
    try:
        listening = UnixSocket(os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise CannotListen(error.errno, f"cannot listen on {path}: {error.strerror}") from None
    try:
        fcntl.flock(listening.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.lexists(path):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise FileExistsError(errno.EEXIST, "a file that is no socket has this name")
            os.unlink(path)
        _bind_for_group(listening, path)
        listening.listen(backlog)
        listening.setblocking(False)
    except BlockingIOError:
        listening.close()
        return None
    except OSError as error:
        listening.close()
        raise CannotListen(error.errno, f"cannot listen on {path}: {error.strerror or error}") from None
    return listening


def _bind_for_group(listening: socket.socket, path: str) -> None:
    """Bind with mode 660 from the first moment on."""
    mask = os.umask(0o117)
    try:
        listening.bind(path)
    finally:
        os.umask(mask)


def activated(environment: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """The sockets passed by systemd, by `FileDescriptorName=`; none when systemd did not start the process.

    Removes the variables from `environment` (pass `os.environ`), so that children do not use these sockets.
    """
    process, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if process != str(os.getpid()) or not count.isdigit():
        return {}
    by_name: dict[str, list[socket.socket]] = {}
    for offset in range(int(count)):
        handed = socket.socket(fileno=FIRST_ACTIVATED_FD + offset)
        handed.set_inheritable(False)
        handed.setblocking(False)
        name = names[offset] if offset < len(names) and names[offset] else "unknown"
        by_name.setdefault(name, []).append(handed)
    return by_name
