"""Reports between mail servers: what is counted for DMARC reports, and the reports of all kinds that are kept."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from restante_server.db.schema.base import RowId, metadata

dmarc_domain = Table(
    "dmarc_domain",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # days since 1970-01-01 UTC
    Column("policy_domain", Text, primary_key=True),  # A-labels
    Column("record", Text, nullable=False),  # the policy record, as last seen
    Column("report_to", Text, nullable=False),  # JSON list of the addresses that may get the report
    comment="Policy domains of which a report is due, one row a day.",
)

dmarc_row = Table(
    "dmarc_row",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("policy_domain", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),  # of `facts`
    Column("facts", Text, nullable=False),  # JSON of restante_mail.feedback.aggregate.Row
    Column("message_count", BigInteger, nullable=False),
    comment="What messages of one day and policy domain have in common, and their number.",
)

failure_incident = Table(
    "failure_incident",
    metadata,
    Column("digest", LargeBinary, primary_key=True),  # of all that similar failures have in common, 32 octets
    Column("policy_domain", Text, nullable=False, index=True),  # A-labels
    Column("addresses", Text, nullable=False),  # JSON list of those that may get the report
    Column("document", LargeBinary, nullable=False),  # the report about one of the latest failures, compressed by GZIP
    Column("incidents", BigInteger, nullable=False),  # failures since the last report; 0: none
    Column("since_at", BigInteger, nullable=False),  # the first of them
    Column("next_at", BigInteger, nullable=False, index=True),  # no report before
    comment="Failures of DMARC that wait for a report (RFC 9991), and those that were reported a short time ago.",
)

report = Table(
    "report",
    metadata,
    Column("report_id", RowId, primary_key=True),
    Column("kind", Integer, nullable=False),  # transport.feedback.archive.Kind
    Column("direction", Integer, nullable=False),  # ReportDirection: sent or received
    Column("organization", Text, nullable=False),  # that wrote it
    Column("external_id", Text, nullable=False),  # its id in the report
    Column("policy_domain", Text, nullable=False),
    Column("begin_at", BigInteger, nullable=False),
    Column("end_at", BigInteger, nullable=False),
    Column("total_count", BigInteger, nullable=False),  # messages, or sessions
    Column("failed_count", BigInteger, nullable=False),  # those of them that failed
    Column("address", Text, nullable=False),  # recipients of a sent report, author of a received one
    Column("document", LargeBinary, nullable=False),  # the report itself, compressed by GZIP
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("kind", "direction", "organization", "policy_domain", "external_id", name="uq_report_identity"),
    Index("ix_report_kind", "kind", "direction", "report_id"),
    Index("ix_report_created", "created_at"),
    sqlite_autoincrement=True,  # an id is never reused, because administrators name a report by it
    comment="Reports between mail servers of all kinds, sent to other domains and received about ours.",
)

report_delivery = Table(
    "report_delivery",
    metadata,
    Column("report_id", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),  # 1, 2, ... within the report
    Column("url", Text, nullable=False),
    Column("state", Integer, nullable=False),  # TlsReportDeliveryState
    Column("attempt_count", Integer, nullable=False),
    Column("detail", Text, nullable=False),  # the outcome of the last attempt
    Column("lease_id", BigInteger),  # of the last attempt
    Column("next_attempt_at", BigInteger),  # NULL in final states
    Column("expires_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),  # set in final states
    ForeignKeyConstraint(["report_id"], ["report.report_id"], ondelete="CASCADE"),
    Index(
        "ix_report_delivery_due",
        "next_attempt_at",
        sqlite_where=text("next_attempt_at IS NOT NULL"),
        postgresql_where=text("next_attempt_at IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
    comment="Web servers that get a sent TLS report (RFC 8460 5.4).",
)

report_cursor = Table(
    "report_cursor",
    metadata,
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("message_id", BigInteger, nullable=False),  # messages up to it have been searched for reports
    comment="How far the mailboxes that receive reports have been read.",
)
