"""check_host over hostile answers: it ends with a result, within a bounded number of questions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from restante_mail.authentication.dns import Address, DnsFailure
from restante_mail.authentication.results import Result
from restante_mail.authentication.spf.evaluation import MAX_HOSTS, MAX_LOOKUPS, Client, check_mail_from

# The record of the domain, and for each term that asks: one question and ten hosts, or ten names for a macro; and exp=.
MAX_QUESTIONS = 1 + MAX_LOOKUPS * (1 + MAX_HOSTS) + (1 + MAX_HOSTS) + 1

WORDS = (
    "a mx ptr all include exists redirect exp ip4 ip6 x.example evil.example 192.0.2.1 ::1 v=spf1 %{p} %{d} l p d2r i"
)
PIECES = [*WORDS.split(), *":=/-?.}", "//64", "%{", " "]
RECORDS = st.lists(st.sampled_from(PIECES), max_size=30).map(lambda pieces: b"v=spf1 " + "".join(pieces).encode())
TERMS = st.sampled_from(
    [
        "a",
        "mx",
        "ptr",
        "include:evil.example",
        "exists:%{p}.x.example",
        "redirect=evil.example",
        "-all",
        "mx:%{h}",
        "exp=x.example",
    ]
)
LIKELY = st.lists(TERMS, max_size=15).map(lambda terms: b"v=spf1 " + " ".join(terms).encode())
NAMES = st.text(alphabet="ab.-_\\ @%\x00\u00e4", max_size=70) | st.just("x.evil.example") | st.just("")


class Liar:
    """Answers every question with something drawn, without end."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self.asked = 0

    def _answer(self, answers: st.SearchStrategy[list[object]]) -> Sequence[object]:
        self.asked += 1
        if self._data.draw(st.integers(0, 9)) == 0:
            raise DnsFailure("no answer")
        return self._data.draw(answers)

    async def txt(self, name: str) -> Sequence[bytes]:
        found = self._answer(st.lists(RECORDS | LIKELY | st.binary(max_size=20), max_size=2))
        return [one for one in found if isinstance(one, bytes)]

    async def addresses(self, name: str, version: int) -> Sequence[Address]:
        address = ip_address("192.0.2.1" if version == 4 else "2001:db8::1")
        return [address] * len(self._answer(st.lists(st.just(0), max_size=3)))

    async def mail_servers(self, name: str) -> Sequence[str]:
        return [str(one) for one in self._answer(st.lists(NAMES, max_size=12))]

    async def names(self, address: Address) -> Sequence[str]:
        return [str(one) for one in self._answer(st.lists(NAMES, max_size=12))]

    async def exists(self, name: str) -> bool:
        return bool(self._answer(st.lists(st.just(0), max_size=1)))


@settings(max_examples=150, deadline=None)
@given(st.data())
async def test_any_answers_give_a_result(data: st.DataObject) -> None:
    dns = Liar(data)
    address = ip_address(data.draw(st.sampled_from(["192.0.2.1", "2001:db8::1", "198.51.100.1"])))
    client = Client(address, data.draw(NAMES), "mx.example", datetime(2026, 1, 2, tzinfo=UTC))
    found = await check_mail_from(client, data.draw(st.text(max_size=10)), "evil.example", dns)
    assert found.result is not Result.POLICY
    assert bool(found.problem) is (found.result in (Result.NONE, Result.PERMERROR, Result.TEMPERROR))
    assert found.explanation.isprintable()
    assert dns.asked <= MAX_QUESTIONS
