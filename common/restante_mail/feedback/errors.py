"""The error of unusable reports. *Pure.*"""

from __future__ import annotations


class BadReport(ValueError):
    """The octets are no usable report. The text has the reason."""
