"""All tables and indexes, with their reasons, in one module for each subject.

The primary key of mailbox data begins with `mailbox_id`, and every statement names it (ids are unique within a mailbox
only). Times are microseconds since 1970-01-01 UTC in BIGINT columns named `..._at`, which compare and sort alike on
every database. Sets of ids are packed runs (`restante_mail.idset`), never long lists.
"""

from sqlalchemy import Column

from restante_server.db.schema.base import HOLDS_CONTENT, NAMES_CONTENT, metadata
from restante_server.db.schema.contents import (
    content,
    content_garbage,
    content_octets,
    content_pin,
    upload,
    upload_piece,
)
from restante_server.db.schema.directory import (
    account,
    account_change,
    alias,
    credential,
    domain,
    domain_key,
    login_failure,
)
from restante_server.db.schema.feedback import (
    dmarc_domain,
    dmarc_row,
    failure_incident,
    report,
    report_cursor,
    report_delivery,
)
from restante_server.db.schema.greylist import greylist_pass, greylist_triplet
from restante_server.db.schema.installation import lasting_secret, revoked_session, sealing_key, store, used_exchange
from restante_server.db.schema.jobs import job, job_finding
from restante_server.db.schema.mailboxes import (
    folder,
    keyword,
    listing,
    mailbox,
    maildrop_lease,
    message,
    recoverable,
    removed,
    request,
    subscription,
    tombstone,
)
from restante_server.db.schema.tls import sts_policy, tls_report, tls_session
from restante_server.db.schema.transport import (
    failed_address,
    kept_path,
    trace_event,
    transport_hold,
    transport_message,
    transport_recipient,
)

__all__ = [
    "CONTENT_HOLDERS",
    "HOLDS_CONTENT",
    "NAMES_CONTENT",
    "account",
    "account_change",
    "alias",
    "content",
    "content_garbage",
    "content_octets",
    "content_pin",
    "credential",
    "dmarc_domain",
    "dmarc_row",
    "domain",
    "domain_key",
    "failed_address",
    "failure_incident",
    "folder",
    "greylist_pass",
    "greylist_triplet",
    "job",
    "job_finding",
    "kept_path",
    "keyword",
    "lasting_secret",
    "listing",
    "login_failure",
    "mailbox",
    "maildrop_lease",
    "message",
    "metadata",
    "recoverable",
    "removed",
    "report",
    "report_cursor",
    "report_delivery",
    "request",
    "revoked_session",
    "sealing_key",
    "store",
    "sts_policy",
    "subscription",
    "tls_report",
    "tls_session",
    "tombstone",
    "trace_event",
    "transport_hold",
    "transport_message",
    "transport_recipient",
    "upload",
    "upload_piece",
    "used_exchange",
]

CONTENT_HOLDERS: tuple[Column[int], ...] = tuple(
    column for table in metadata.sorted_tables for column in table.columns if column.info == HOLDS_CONTENT
)
"""All columns that hold a content: a content stays while a row of one of them names it."""
