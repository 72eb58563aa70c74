"""The published vectors of ARC, validated and sealed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import dkim
import pytest

from restante_mail.authentication.arc.seal import Sealer
from restante_mail.authentication.arc.validate import ArcValidator
from restante_mail.authentication.dkim.content import Content, HeaderFields
from restante_mail.authentication.dkim.signing_keys import load_key
from restante_mail.authentication.dkim.tags import read_tags
from restante_mail.authentication.results import ArcResult, Result
from restante_mail.header.fields import header_end, unfold
from tests.harness.memory_dns import MemoryDns
from tests.harness.requirements import missing
from tests.mail.authentication.arc.vectors import Case, cases

VALIDATION, SIGNING = cases("arc-draft-validation-tests.yml"), cases("arc-draft-sign-tests.yml")
NOW = datetime(2017, 1, 20, tzinfo=UTC)

# The draft of the vectors left the result open where a seal says cv=fail. RFC 8617 5.2 steps 2 and 3: fail.
FAIL_BY_RFC_8617 = {"cv_fail_i1_as_cv_fail", "cv_fail_i2_as2_fail", "cv_fail_i2_as1_fail"}


def validated(content: bytes, dns: MemoryDns, piece: int = 1_000_000) -> ArcResult:
    message = Content()
    validator = ArcValidator(message)
    for at in range(0, len(content), piece):
        message.feed(content[at : at + piece])
    message.finish()
    return asyncio.run(validator.result(dns, NOW))


def test_the_vectors_are_there() -> None:
    if not VALIDATION:
        missing("the ARC vectors (../shared/vectors/arc beside the repository) are not there")
    assert (len(VALIDATION), len(SIGNING)) == (171, 17)


@pytest.mark.parametrize("case", VALIDATION, ids=lambda case: case.name)
def test_a_chain_of_the_vectors(case: Case) -> None:
    expected = case.values["cv"].strip().lower()
    if case.name in FAIL_BY_RFC_8617:
        assert not expected
        expected = "fail"
    for piece in (1_000_000, 7):
        result = validated(case.content, case.dns, piece)
        assert result.result.value == expected, result.problem
        assert bool(result.problem) == (expected == "fail")


def merged_results(case: Case) -> str:
    """The results of the fields with the host's name, joined."""
    fields = HeaderFields(case.content[: header_end(case.content) - 2]).named(b"authentication-results")
    values = [unfold(field.value).partition(";") for field in fields]
    host = case.values["srv-id"]
    return "; ".join([host, *(rest.strip() for name, _, rest in values if name == host)])


def sealed(case: Case) -> bytes:
    key = load_key(case.scenario["domain"], case.scenario["sel"], case.scenario["privatekey"].encode())
    results = merged_results(case)
    chain = next((each for each in (Result.PASS, Result.FAIL) if f" arc={each.value}" in results), Result.NONE)
    names = [name.encode() for name in case.values["sig-headers"].split(":")]
    when = datetime.fromtimestamp(case.values["t"], UTC)
    sealer = Sealer(key, when, chain, results, names)
    sealer.feed(case.content)
    return sealer.finish()


def tags_of(value: str) -> dict[str, str]:
    """The tags of a field but b=, with names of fields in lower case."""
    tags = {
        name: "".join(text.split())
        for name, text in read_tags(value.replace("\n", " ").encode(), 10_000).values.items()
    }
    return {name: text.lower() if name == "h" else text for name, text in tags.items() if name != "b"}


@pytest.mark.parametrize("case", SIGNING, ids=lambda case: case.name)
def test_a_seal_of_the_vectors(case: Case) -> None:
    fields: list[Any] = list(HeaderFields(sealed(case)).fields)
    if not case.values["AS"]:
        assert fields == []
        return
    seal, signature, results = (unfold(field.value) for field in fields)
    assert tags_of(seal) == tags_of(case.values["AS"])
    assert tags_of(signature) == tags_of(case.values["AMS"])
    assert results.split() == case.values["AAR"].split()


@pytest.mark.parametrize("case", [case for case in SIGNING if case.values["AS"]], ids=lambda case: case.name)
def test_a_seal_of_the_vectors_is_valid(case: Case) -> None:
    content = sealed(case) + case.content
    records = {name + ".": text.replace("\n", "").encode() for name, text in case.scenario["txt-records"].items()}
    status, _, _ = dkim.arc_verify(content, dnsfunc=lambda name, timeout=5: records[name.decode()])
    result = validated(content, case.dns)
    if " arc=fail" in merged_results(case):
        assert (result.result, status) == (Result.FAIL, None)  # dkimpy's word for a chain that ends with cv=fail
    else:
        assert (result.result, status) == (Result.PASS, b"pass")
        assert set(result.sealers) == {"example.org"}
