"""Listening sockets: bound here, or handed over by systemd."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import MutableMapping

Socket = socket.socket
NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})  # the machine has none
FIRST_ACTIVATED_FD = 3  # sd_listen_fds(3)


def bind(host: str, port: int, *, reuse_port: bool = False, backlog: int = 1024) -> list[socket.socket]:
    """Listening sockets for every address `host` stands for; `""` and `*` for all of the machine's.

    `reuse_port` lets several processes share the port, the kernel spreading connections over them. With port 0 all
    addresses get the one free port chosen for the first. Raises OSError, having closed what was opened.
    """
    everywhere = host in ("", "*")
    found = socket.getaddrinfo(None if everywhere else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
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
                if everywhere and family == socket.AF_INET6 and error.errno in NO_IPV6:
                    continue
                raise
            listening.listen(backlog)
            sockets.append(listening)
        opened.pop_all()
    return sockets


def _prepare(listening: socket.socket, reuse_port: bool) -> None:
    if listening.family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.setblocking(False)


def activated(environment: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """The sockets systemd handed over, by `FileDescriptorName=`; none when it did not start us.

    Takes the variables out of `environment` (pass `os.environ`), so that children do not take the sockets for theirs.
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
