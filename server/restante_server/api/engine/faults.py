"""Faults of this program: the caller receives an incident number, and the log receives the traceback."""

from __future__ import annotations

import logging
import secrets

from restante.errors import Internal, RestanteError

log = logging.getLogger(__name__)


def translate(error: Exception, path: str) -> RestanteError:
    """The error for the caller. Anything but a RestanteError is logged with the incident number of the answer."""
    if isinstance(error, RestanteError):
        return error
    incident = secrets.token_hex(6)
    log.error("%s failed by a fault of this server; clients receive incident number %s", path, incident, exc_info=error)
    return Internal(incident=incident)
