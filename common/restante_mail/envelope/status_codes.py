"""Enhanced status codes, such as 5.1.1 (RFC 3463 2). *Pure.*"""

from __future__ import annotations

import re

STATUS_CODE = r"[245]\.[0-9]{1,3}\.[0-9]{1,3}"
"""A regular expression without groups."""

_STATUS_CODE = re.compile(STATUS_CODE)


def is_status_code(text: str) -> bool:
    """Whether the whole text is an enhanced status code."""
    return _STATUS_CODE.fullmatch(text) is not None
