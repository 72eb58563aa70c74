"""Enhanced status codes (RFC 3463 2): a class, a subject and a detail, in ASCII digits."""

from __future__ import annotations

import pytest

from restante_mail.envelope.status_codes import is_status_code


@pytest.mark.parametrize("text", ["2.0.0", "4.4.7", "5.1.10", "5.999.999"])
def test_a_status_code(text: str) -> None:
    assert is_status_code(text)


@pytest.mark.parametrize(
    "text", ["", "3.0.0", "5.1", "5.1.1000", "5.01.1 ", "5.1.1\n", "5.1.\u0661", "x5.1.1", "5,1,1"]
)
def test_not_a_status_code(text: str) -> None:
    assert not is_status_code(text)
