"""Chains of certificates as a hostile server presents them: verified or refused, and nothing else."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.relay.tls.chains import ChainRefused, verify
from restante_mail.authentication.dane import TlsaRecord
from tests.harness.certificates import Authority

NAME = "mx.example.net"
Change = tuple[float, int, bytes]

CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4), st.binary(max_size=4)), max_size=3)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return authority.issue(NAME).leaf, authority.intermediate


def changed(octets: bytes, changes: list[Change]) -> bytes:
    """The octets with some removed and others put in, each at a part of the length."""
    for part, removed, put in changes:
        at = int(part * len(octets))
        octets = octets[:at] + put + octets[at + removed :]
    return octets


@given(CHANGES, CHANGES, CHANGES)
def test_any_certificates_are_verified_or_refused(
    chain: tuple[bytes, bytes], own: list[Change], above: list[Change], named: list[Change]
) -> None:
    presented = changed(chain[0], own), changed(chain[1], above)
    for record in (
        TlsaRecord(2, 0, 1, hashlib.sha256(presented[1]).digest()),
        TlsaRecord(2, 0, 0, changed(chain[1], named)),
    ):
        with contextlib.suppress(ChainRefused):
            verify(presented, [record], [NAME])


def test_the_unchanged_chain_is_verified(chain: tuple[bytes, bytes]) -> None:
    verify(chain, [TlsaRecord(2, 0, 1, hashlib.sha256(chain[1]).digest())], [NAME])
