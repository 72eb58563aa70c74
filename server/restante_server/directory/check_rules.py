"""The settings for mail from other servers: those of a domain for mail to it, and those of the installation. *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class OnFailure(IntEnum):
    """What happens to mail that fails a check. Numbers as in the contract's FailedCheckPolicy."""

    NONE = 1  # it is delivered as other mail
    QUARANTINE = 2  # it is delivered to Junk
    REJECT = 3  # it is refused in the session


class DomainRules(NamedTuple):
    """The settings of one domain."""

    failed_dmarc: OnFailure = OnFailure.QUARANTINE
    forged_sender: OnFailure = OnFailure.QUARANTINE
    greylisting: bool = False  # mail of unknown clients is deferred once


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """The policy of the whole installation for the results of checks."""

    junk_weight: float = 1.0  # of the DNS lists that have the client; 0: never
    refuse_weight: float = 2.0  # 0: never
    trusted_sealers: frozenset[str] = frozenset()  # domains in A-labels, lower case
