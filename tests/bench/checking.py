"""A DNS for a platform that checks the load generator's mail, whose clients are on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator

from tests.harness import dns_server as harness

ZONE = """
sender.test            TXT  "v=spf1 ip4:192.0.2.0/24 include:spf.sender.test -all"
spf.sender.test        TXT  "v=spf1 a:mail.sender.test -all"
_dmarc.sender.test     TXT  "v=DMARC1; p=reject"
mail.sender.test       A    127.0.0.1
1.0.0.127.in-addr.arpa PTR  mail.sender.test.
lists.test             TXT  "no client of this machine is listed"
"""
TTL_SECONDS = 3_600
LISTS = 3


@contextlib.contextmanager
def checks() -> Iterator[dict[str, str]]:
    """The variables of the environment for checks of all clients, while a DNS server of ours runs on a thread."""
    harness.TTL_SECONDS = TTL_SECONDS
    loop, ended, addresses = asyncio.new_event_loop(), asyncio.Event(), list[str]()
    started = threading.Event()

    async def serve() -> None:
        async with harness.dns_server(ZONE) as server:
            addresses.append(server.address)
            started.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="dns")
    thread.start()
    try:
        started.wait()
        lists = ", ".join(f'{{ zone = "{number}.lists.test" }}' for number in range(LISTS))
        yield {
            "RESTANTE_CHECKS__EXEMPT": "[]",
            "RESTANTE_CHECKS__NAMESERVERS": json.dumps(addresses),
            "RESTANTE_CHECKS__DNS_LISTS": f"[{lists}]",
        }
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
