"""Listening sockets: bound by the process or passed by systemd."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from restante_process import sockets


def test_reuse_port_lets_two_share_a_port() -> None:
    first = sockets.bind("127.0.0.1", 0, reuse_port=True)
    port = first[0].getsockname()[1]
    second = sockets.bind("127.0.0.1", port, reuse_port=True)
    with pytest.raises(OSError):
        sockets.bind("127.0.0.1", port)
    for each in first + second:
        each.close()


def test_all_addresses_share_the_port_that_was_chosen() -> None:
    found = sockets.bind("localhost", 0)
    assert len({each.getsockname()[1] for each in found}) == 1
    for each in found:
        assert not each.getblocking()
        each.close()


def _host(listening: socket.socket) -> str:
    return str(listening.getsockname()[0])


def test_localhost_is_both_addresses_whatever_the_table_of_hosts_has(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda name, *a, **k: [] if name == "localhost" else whole(name, *a, **k)
    )
    found = sockets.bind("localhost", 0)
    hosts = [_host(each) for each in found]
    for each in found:
        each.close()
    assert hosts == ["127.0.0.1", "::1"] if _has_ipv6() else ["127.0.0.1"]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["localhost", "", "*"])
@pytest.mark.parametrize("number", sorted(sockets.NO_IPV6))
def test_a_machine_without_ipv6_serves_by_ipv4(host: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class OldSocket(socket.socket):
        def bind(self, address: object) -> None:
            if self.family == socket.AF_INET6:
                raise OSError(number, os.strerror(number))
            super().bind(address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "socket", OldSocket)
    found = sockets.bind(host, 0)
    families = {each.family for each in found}
    for each in found:
        each.close()
    assert families == {socket.AF_INET}
    with pytest.raises(sockets.CannotListen, match=r"cannot listen on \[::1\]:"):
        sockets.bind("::1", 0)  # an IPv6 address requested explicitly


@pytest.mark.parametrize(
    ("host", "cause"),
    [
        ("127.0.0.1", "another program uses this port"),
        ("localhost", "another program uses this port"),
        ("192.0.2.1", "does not have the address"),
        ("nowhere.invalid", "nowhere.invalid"),
    ],
)
def test_a_port_that_cannot_be_served_is_named_with_the_cause(host: str, cause: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(sockets.CannotListen, match=cause) as refused:
            sockets.bind(host, port)
        if "another" in cause:
            assert f"127.0.0.1:{port}" in str(refused.value) and refused.value.errno == errno.EADDRINUSE


def test_sockets_of_another_process_are_left_alone() -> None:
    environment = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "pop3", "HOME": "/"}
    assert sockets.activated(environment) == {}
    assert environment == {"HOME": "/"}


def test_systemd_sockets_come_by_name() -> None:
    program = """
        import os, sys
        from restante_process import sockets
        listening = sockets.bind("127.0.0.1", 0) + sockets.bind("127.0.0.1", 0)
        ports = [each.getsockname()[1] for each in listening]
        for number, each in enumerate(listening):
            os.dup2(each.fileno(), 100 + number)
        for number, each in enumerate(listening):
            each.close()
            os.dup2(100 + number, 3 + number)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="pop3:pop3s")
        found = sockets.activated(os.environ)
        assert {name: [s.getsockname()[1] for s in group] for name, group in found.items()} == {
            "pop3": ports[:1], "pop3s": ports[1:]}, found
        assert "LISTEN_FDS" not in os.environ
        assert not any(s.get_inheritable() for group in found.values() for s in group)
        print("by name")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30)
    assert done.stdout == "by name\n", done.stderr


def test_a_port_in_use_leaves_nothing_open() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        sockets.bind("127.0.0.1", taken.getsockname()[1])
    assert len(os.listdir("/proc/self/fd")) == before
    taken.close()


def test_everywhere_is_both_families_where_there_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    found = sockets.bind("", 0)
    assert len({each.getsockname()[1] for each in found}) == 1
    for each in found:
        each.close()
    original = socket.socket.bind

    def without_ipv6(self: socket.socket, address: tuple[str, int]) -> None:
        if self.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "no IPv6 here")
        original(self, address)

    class Ipv4Socket(socket.socket):
        bind = without_ipv6  # type: ignore[assignment]

    monkeypatch.setattr(socket, "socket", Ipv4Socket)
    (only,) = sockets.bind("", 0)
    assert only.family == socket.AF_INET
    only.close()
    with pytest.raises(OSError):
        sockets.bind("::1", 0)


def test_a_unix_socket_is_for_the_group_and_served_once(tmp_path: Path) -> None:
    path = str(tmp_path / "lmtp")
    first = sockets.bind_unix(path)
    assert first is not None
    assert not first.getblocking()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    assert sockets.bind_unix(path) is None
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    first.close()
    again = sockets.bind_unix(path)  # the file of the first was left over
    assert again is not None
    again.close()


@pytest.mark.parametrize("path", ["file", "none/lmtp", "x" * 200])
def test_a_unix_socket_that_cannot_be_served_is_named(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(sockets.CannotListen, match=path[:4]):
        sockets.bind_unix(str(tmp_path / path))
    assert (tmp_path / "file").read_text() == "kept"
