"""The handlers of every service. `app` passes them to the registry of its core."""

from __future__ import annotations

from typing import Final

from restante_server.api.engine.registry import Handlers
from restante_server.api.services import (
    accept,
    accept_message,
    admin,
    append,
    contents,
    directory,
    dmarc_reports,
    domain_keys,
    failed_addresses,
    folders,
    job_starts,
    jobs,
    mailboxes,
    messages,
    outbound,
    queue,
    recipients,
    recoverable,
    search,
    server,
    sessions,
    submission,
    sync,
    tls,
    trace,
    watch,
)

SERVICES: Final[tuple[Handlers, ...]] = (
    accept.handlers,
    accept_message.handlers,
    admin.handlers,
    append.handlers,
    contents.handlers,
    directory.handlers,
    dmarc_reports.handlers,
    domain_keys.handlers,
    failed_addresses.handlers,
    folders.handlers,
    job_starts.handlers,
    jobs.handlers,
    mailboxes.handlers,
    messages.handlers,
    outbound.handlers,
    queue.handlers,
    trace.handlers,
    recipients.handlers,
    recoverable.handlers,
    search.handlers,
    server.handlers,
    sessions.handlers,
    submission.handlers,
    sync.handlers,
    tls.handlers,
    watch.handlers,
)
