"""Jobs and their findings."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, Text

from restante_server.db.schema.base import RowId, metadata

job = Table(
    "job",
    metadata,
    Column("job_id", RowId, primary_key=True),
    Column("kind", Integer, nullable=False),  # JobKind
    Column("state", Integer, nullable=False),  # JobState
    Column("actor", Text, nullable=False),  # address of the account that began it, or "admin"
    Column("account_id", BigInteger),  # that account, whose right every step needs; NULL: the admin identity
    Column("subject", Text, nullable=False),  # an address, a directory or ""
    Column("place", Text, nullable=False),  # the only core that may run it, by machine and data directory; "": any
    Column("mailbox_id", BigInteger),  # the mailbox that a deletion removes
    Column("request", LargeBinary, nullable=False),  # the serialised request
    Column("cursor", LargeBinary, nullable=False),  # where the work goes on; its form is the kind's own
    Column("done", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("finding_count", BigInteger, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column(
        "attempts", Integer, nullable=False
    ),  # runs since the last committed step; a core that stops gives its own back
    Column("status", LargeBinary),  # serialised google.rpc.Status of a failure
    Column("lease_id", BigInteger),  # the run that may write; another core takes over when the lease has expired
    Column("lease_expires_at", BigInteger),  # by the database's clock
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),  # set in final states
    Index("ix_job_state", "state", "kind", "job_id"),
    Index("ix_job_mailbox", "mailbox_id"),
    Index("ix_job_end", "finished_at"),
    sqlite_autoincrement=True,  # an id is never reused, because clients watch it
    comment="Work that takes long, kept 30 days after its end.",
)

job_finding = Table(
    "job_finding",
    metadata,
    Column("job_id", BigInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # 1, 2, ... within the job
    Column("problem", Text, nullable=False),
    comment="Findings of a check: a bounded number for each job.",
)
