"""The schema of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "account_change",
        sa.Column("account_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("credential_version", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_account_change")),
        comment="Accounts changed or deleted within the last hour, so that every core hears of it within seconds.",
    )
    op.create_index("ix_account_change_age", "account_change", ["changed_at"], unique=False)
    op.create_table(
        "content",
        sa.Column("content_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("size_octets", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=True),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("structure", sa.LargeBinary(), nullable=False),
        sa.Column("listed_in", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("content_id", name=op.f("pk_content")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_content_dead",
        "content",
        ["state"],
        unique=False,
        sqlite_where=sa.text("state = 2"),
        postgresql_where=sa.text("state = 2"),
    )
    op.create_table(
        "content_garbage",
        sa.Column("content_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("noticed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("content_id", name=op.f("pk_content_garbage")),
        comment="Contents that a row or pin has let go of: the collector looks again before it removes one.",
    )
    op.create_table(
        "content_octets",
        sa.Column(
            "content_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("octets", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("content_id", name=op.f("pk_content_octets")),
    )
    op.create_table(
        "content_pin",
        sa.Column("content_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pin_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("content_id", "pin_id", name=op.f("pk_content_pin")),
        comment="Keeps a content that no message names yet: uploads, acceptances under way.",
    )
    op.create_index("ix_content_pin_expiry", "content_pin", ["expires_at"], unique=False)
    op.create_table(
        "dmarc_domain",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("policy_domain", sa.Text(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("report_to", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("day", "policy_domain", name=op.f("pk_dmarc_domain")),
        comment="Policy domains of which a report is due, one row a day.",
    )
    op.create_table(
        "dmarc_row",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("policy_domain", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("message_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "policy_domain", "digest", name=op.f("pk_dmarc_row")),
        comment="What messages of one day and policy domain have in common, and their number.",
    )
    op.create_table(
        "domain",
        sa.Column("domain_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("ascii_name", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("catch_all", sa.Text(), nullable=True),
        sa.Column("resending", sa.Integer(), nullable=False),
        sa.Column("failed_dmarc", sa.Integer(), server_default="2", nullable=False),
        sa.Column("forged_sender", sa.Integer(), server_default="2", nullable=False),
        sa.Column("greylisting", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("domain_id", name=op.f("pk_domain")),
        sa.UniqueConstraint("ascii_name", name=op.f("uq_domain_ascii_name")),
    )
    op.create_table(
        "failed_address",
        sa.Column("address_key", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("diagnostic", sa.Text(), nullable=False),
        sa.Column("failed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("address_key", name=op.f("pk_failed_address")),
        comment="Addresses of other domains to which mail has failed because they do not exist: senders get a warning.",
    )
    op.create_index(op.f("ix_failed_address_domain"), "failed_address", ["domain"], unique=False)
    op.create_index(op.f("ix_failed_address_failed_at"), "failed_address", ["failed_at"], unique=False)
    op.create_table(
        "failure_incident",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("policy_domain", sa.Text(), nullable=False),
        sa.Column("addresses", sa.Text(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("incidents", sa.BigInteger(), nullable=False),
        sa.Column("since_at", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_failure_incident")),
        comment="Failures of DMARC that wait for a report (RFC 9991), and those that were reported a short time ago.",
    )
    op.create_index(op.f("ix_failure_incident_next_at"), "failure_incident", ["next_at"], unique=False)
    op.create_index(op.f("ix_failure_incident_policy_domain"), "failure_incident", ["policy_domain"], unique=False)
    op.create_table(
        "folder",
        sa.Column("mailbox_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("folder_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("parent_folder_id", sa.BigInteger(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("role", sa.Integer(), nullable=False),
        sa.Column("change_number", sa.BigInteger(), nullable=False),
        sa.Column("uid_validity", sa.BigInteger(), nullable=False),
        sa.Column("uid_next", sa.BigInteger(), nullable=False),
        sa.Column("recent_uid", sa.BigInteger(), nullable=False),
        sa.Column("message_count", sa.BigInteger(), nullable=False),
        sa.Column("unread_count", sa.BigInteger(), nullable=False),
        sa.Column("deleted_count", sa.BigInteger(), nullable=False),
        sa.Column("size_octets", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", "folder_id", name=op.f("pk_folder")),
        sa.UniqueConstraint(
            "mailbox_id",
            "parent_folder_id",
            "display_name",
            name=op.f("uq_folder_mailbox_id_parent_folder_id_display_name"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "greylist_pass",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("is_allowed", sa.Boolean(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("counted_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_greylist_pass")),
        comment="Networks and recipients whose mail passes greylisting.",
    )
    op.create_index(op.f("ix_greylist_pass_expires_at"), "greylist_pass", ["expires_at"], unique=False)
    op.create_table(
        "greylist_triplet",
        sa.Column("triplet_key", sa.LargeBinary(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("reverse_path", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("is_known", sa.Boolean(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("triplet_key", name=op.f("pk_greylist_triplet")),
        comment="Combinations from which mail has come to domains with greylisting.",
    )
    op.create_index("ix_greylist_triplet_expiry", "greylist_triplet", ["is_known", "expires_at"], unique=False)
    op.create_index("ix_greylist_triplet_network", "greylist_triplet", ["network", "triplet_key"], unique=False)
    op.create_index(op.f("ix_greylist_triplet_recipient"), "greylist_triplet", ["recipient"], unique=False)
    op.create_table(
        "job",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("mailbox_id", sa.BigInteger(), nullable=True),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("cursor", sa.LargeBinary(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("finding_count", sa.BigInteger(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("status", sa.LargeBinary(), nullable=True),
        sa.Column("lease_id", sa.BigInteger(), nullable=True),
        sa.Column("lease_expires_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job")),
        comment="Work that takes long, kept 30 days after its end.",
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_end", "job", ["finished_at"], unique=False)
    op.create_index("ix_job_mailbox", "job", ["mailbox_id"], unique=False)
    op.create_index("ix_job_state", "job", ["state", "kind", "job_id"], unique=False)
    op.create_table(
        "job_finding",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_job_finding")),
        comment="Findings of a check: a bounded number for each job.",
    )
    op.create_table(
        "kept_path",
        sa.Column("path_key", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("path_key", name=op.f("pk_kept_path")),
        comment="Long reverse-paths of mail that an alias has sent on, so that reports find the way back.",
    )
    op.create_index(op.f("ix_kept_path_used_at"), "kept_path", ["used_at"], unique=False)
    op.create_table(
        "keyword",
        sa.Column("mailbox_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("keyword_key", sa.Text(), nullable=False),
        sa.Column("keyword", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", "keyword_key", name=op.f("pk_keyword")),
        comment="The keywords of a mailbox: their spelling, and how many there are, without reading its messages.",
    )
    op.create_table(
        "lasting_secret",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "number", name=op.f("pk_lasting_secret")),
        comment="Secrets that outlive the sealing keys, in versions: that of rewritten reverse-paths.",
    )
    op.create_table(
        "listing",
        sa.Column("mailbox_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("content_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("body_structure", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("summary", sa.LargeBinary(), nullable=False),
        sa.Column("preview", sa.Text(), nullable=False),
        sa.Column("attachment_count", sa.Integer(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("sent_offset_minutes", sa.Integer(), nullable=False),
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("sort_subject_key", sa.Text(), nullable=False),
        sa.Column("sort_from_key", sa.Text(), nullable=False),
        sa.Column("from_key", sa.Text(), nullable=False),
        sa.Column("to_key", sa.Text(), nullable=False),
        sa.Column("cc_key", sa.Text(), nullable=False),
        sa.Column("bcc_key", sa.Text(), nullable=False),
        sa.Column("checks", sa.LargeBinary(), nullable=False),
        sa.Column("check_results", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", "content_id", name=op.f("pk_listing")),
        comment="What lists show of a content, apart from its octets, for all messages that have it, in any mailbox.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "login_failure",
        sa.Column("failure_key", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("failure_key", name=op.f("pk_login_failure")),
        comment="Failed logins, so that every core slows the same guesser.",
    )
    op.create_index(op.f("ix_login_failure_last_at"), "login_failure", ["last_at"], unique=False)
    op.create_table(
        "mailbox",
        sa.Column("mailbox_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=True),
        sa.Column("change_number", sa.BigInteger(), nullable=False),
        sa.Column("next_message_id", sa.BigInteger(), nullable=False),
        sa.Column("next_folder_id", sa.BigInteger(), nullable=False),
        sa.Column("quota_octets", sa.BigInteger(), nullable=True),
        sa.Column("used_octets", sa.BigInteger(), nullable=False),
        sa.Column("message_count", sa.BigInteger(), nullable=False),
        sa.Column("recoverable_octets", sa.BigInteger(), nullable=False),
        sa.Column("recoverable_count", sa.BigInteger(), nullable=False),
        sa.Column("history_from", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", name=op.f("pk_mailbox")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "maildrop_lease",
        sa.Column("mailbox_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lease", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", name=op.f("pk_maildrop_lease")),
    )
    op.create_table(
        "message",
        sa.Column("mailbox_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("message_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("folder_id", sa.BigInteger(), nullable=True),
        sa.Column("uid", sa.BigInteger(), nullable=True),
        sa.Column("flags", sa.Integer(), nullable=False),
        sa.Column("keywords", sa.Text(), server_default="", nullable=False),
        sa.Column("change_number", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("received_offset_minutes", sa.Integer(), nullable=False),
        sa.Column("size_octets", sa.BigInteger(), nullable=False),
        sa.Column("content_id", sa.BigInteger(), nullable=False),
        sa.Column("listed_in", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", "message_id", name=op.f("pk_message")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_message_change",
        "message",
        ["mailbox_id", "folder_id", "change_number"],
        unique=False,
        sqlite_where=sa.text("folder_id IS NOT NULL"),
        postgresql_where=sa.text("folder_id IS NOT NULL"),
    )
    op.create_index("ix_message_content", "message", ["content_id"], unique=False)
    op.create_index(
        "uq_message_place",
        "message",
        ["mailbox_id", "folder_id", "uid"],
        unique=True,
        sqlite_where=sa.text("folder_id IS NOT NULL"),
        postgresql_where=sa.text("folder_id IS NOT NULL"),
    )
    op.create_table(
        "recoverable",
        sa.Column("mailbox_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("message_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("from_folder_id", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", "message_id", name=op.f("pk_recoverable")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_recoverable_mailbox_id_deleted_at"), "recoverable", ["mailbox_id", "deleted_at"], unique=False
    )
    op.create_table(
        "removed",
        sa.Column("mailbox_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("message_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", "message_id", name=op.f("pk_removed")),
        comment="Messages removed for good, whose rows stay a little for readers that have not been told; in no quota.",
        sqlite_with_rowid=False,
    )
    op.create_index("ix_removed_expiry", "removed", ["expires_at"], unique=False)
    op.create_table(
        "report",
        sa.Column("report_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("direction", sa.Integer(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("policy_domain", sa.Text(), nullable=False),
        sa.Column("begin_at", sa.BigInteger(), nullable=False),
        sa.Column("end_at", sa.BigInteger(), nullable=False),
        sa.Column("total_count", sa.BigInteger(), nullable=False),
        sa.Column("failed_count", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_report")),
        sa.UniqueConstraint(
            "kind", "direction", "organization", "policy_domain", "external_id", name="uq_report_identity"
        ),
        comment="Reports between mail servers of all kinds, sent to other domains and received about ours.",
        sqlite_autoincrement=True,
    )
    op.create_index("ix_report_created", "report", ["created_at"], unique=False)
    op.create_index("ix_report_kind", "report", ["kind", "direction", "report_id"], unique=False)
    op.create_table(
        "report_cursor",
        sa.Column("mailbox_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", name=op.f("pk_report_cursor")),
        comment="How far the mailboxes that receive reports have been read.",
    )
    op.create_table(
        "request",
        sa.Column("mailbox_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("request_id", sa.LargeBinary(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", "actor", "request_id", name=op.f("pk_request")),
        comment="What has been done under a request_id, written in the transaction that did it.",
        sqlite_with_rowid=False,
    )
    op.create_index("ix_request_expiry", "request", ["expires_at"], unique=False)
    op.create_table(
        "revoked_session",
        sa.Column("session_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_revoked_session")),
        comment="Sessions that were logged off, until no token of theirs can be good any more.",
    )
    op.create_index("ix_revoked_session_expiry", "revoked_session", ["expires_at"], unique=False)
    op.create_table(
        "sealing_key",
        sa.Column("key_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_sealing_key")),
        comment="Keys that seal session tokens, exchanges and cursors. Any core can open what another sealed.",
    )
    op.create_table(
        "store",
        sa.Column("store_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("store_uuid", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("uid_validity_next", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("store_id = 1", name=op.f("ck_store_single")),
        sa.PrimaryKeyConstraint("store_id", name=op.f("pk_store")),
        comment="One row: facts of the whole store.",
    )
    op.create_table(
        "sts_policy",
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("policy", sa.LargeBinary(), nullable=False),
        sa.Column("fetched_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("domain", name=op.f("pk_sts_policy")),
        comment="MTA-STS policies that relays have fetched: they must outlive a relay (RFC 8461 10.2).",
    )
    op.create_index("ix_sts_policy_age", "sts_policy", ["fetched_at"], unique=False)
    op.create_index("ix_sts_policy_expiry", "sts_policy", ["expires_at"], unique=False)
    op.create_table(
        "subscription",
        sa.Column("mailbox_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", "path", name=op.f("pk_subscription")),
        comment="Names, whether or not a folder is there (RFC 3501 6.3.6).",
    )
    op.create_table(
        "tls_report",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("policy_domain", sa.Text(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("reported_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("day", "policy_domain", name=op.f("pk_tls_report")),
        comment="Domains that want a report about their TLS sessions of a day.",
    )
    op.create_index(
        "ix_tls_report_due",
        "tls_report",
        ["day"],
        unique=False,
        sqlite_where=sa.text("NOT settled"),
        postgresql_where=sa.text("NOT settled"),
    )
    op.create_table(
        "tls_session",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("policy_domain", sa.Text(), nullable=False),
        sa.Column("policy_kind", sa.Integer(), nullable=False),
        sa.Column("policy_lines", sa.Text(), nullable=False),
        sa.Column("mx_patterns", sa.Text(), nullable=False),
        sa.Column("result", sa.Integer(), nullable=False),
        sa.Column("sending_address", sa.Text(), nullable=False),
        sa.Column("receiving_host", sa.Text(), nullable=False),
        sa.Column("receiving_address", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("session_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "digest", name=op.f("pk_tls_session")),
        comment="Counts of TLS sessions with other servers, for reports (RFC 8460).",
    )
    op.create_index(op.f("ix_tls_session_policy_domain_day"), "tls_session", ["policy_domain", "day"], unique=False)
    op.create_table(
        "tombstone",
        sa.Column("mailbox_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("change_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("folder_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("target_folder_id", sa.BigInteger(), nullable=False),
        sa.Column("uids", sa.LargeBinary(), nullable=False),
        sa.Column("message_ids", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", "change_number", "folder_id", name=op.f("pk_tombstone")),
        comment="Removals, kept 30 days for those who copy a mailbox.",
        sqlite_with_rowid=False,
    )
    op.create_index("ix_tombstone_age", "tombstone", ["created_at"], unique=False)
    op.create_table(
        "trace_event",
        sa.Column("event_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("transport_id", sa.BigInteger(), nullable=False),
        sa.Column("recipient_id", sa.Integer(), nullable=False),
        sa.Column("happened_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_trace_event")),
    )
    op.create_index("ix_trace_event_age", "trace_event", ["happened_at"], unique=False)
    op.create_index(
        op.f("ix_trace_event_transport_id_event_id"), "trace_event", ["transport_id", "event_id"], unique=False
    )
    op.create_table(
        "transport_hold",
        sa.Column("kind", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "value", name=op.f("pk_transport_hold")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "transport_message",
        sa.Column("transport_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("reverse_path", sa.Text(), nullable=False),
        sa.Column("content_id", sa.BigInteger(), nullable=True),
        sa.Column("trace_field", sa.LargeBinary(), nullable=False),
        sa.Column("size_octets", sa.BigInteger(), nullable=False),
        sa.Column("dsn_return", sa.Integer(), nullable=False),
        sa.Column("envelope_id", sa.Text(), nullable=False),
        sa.Column("smtputf8", sa.Boolean(), nullable=False),
        sa.Column("body_8bit", sa.Boolean(), nullable=False),
        sa.Column("tls_optional", sa.Boolean(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("signing_domain", sa.Text(), nullable=False),
        sa.Column("forwarder", sa.Text(), nullable=False),
        sa.Column("internet_message_id", sa.Text(), nullable=False),
        sa.Column("send_at", sa.BigInteger(), nullable=True),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        sa.Column("checks", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("transport_id", name=op.f("pk_transport_message")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_transport_message_account",
        "transport_message",
        ["account_id", "transport_id"],
        unique=False,
        sqlite_where=sa.text("account_id IS NOT NULL"),
        postgresql_where=sa.text("account_id IS NOT NULL"),
    )
    op.create_index("ix_transport_message_age", "transport_message", ["accepted_at"], unique=False)
    op.create_index(
        "ix_transport_message_content",
        "transport_message",
        ["content_id"],
        unique=False,
        sqlite_where=sa.text("content_id IS NOT NULL"),
        postgresql_where=sa.text("content_id IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_transport_message_internet_message_id"), "transport_message", ["internet_message_id"], unique=False
    )
    op.create_index(op.f("ix_transport_message_reverse_path"), "transport_message", ["reverse_path"], unique=False)
    op.create_index(
        "ix_transport_message_scheduled",
        "transport_message",
        ["account_id", "send_at"],
        unique=False,
        sqlite_where=sa.text("send_at IS NOT NULL"),
        postgresql_where=sa.text("send_at IS NOT NULL"),
    )
    op.create_table(
        "transport_recipient",
        sa.Column("transport_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("recipient_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("forward_path", sa.Text(), nullable=False),
        sa.Column("original_recipient", sa.Text(), nullable=False),
        sa.Column("notify", sa.Integer(), nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("mailbox_id", sa.BigInteger(), nullable=True),
        sa.Column("message_id", sa.BigInteger(), nullable=True),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("sender", sa.BigInteger(), nullable=False),
        sa.Column("promised", sa.Boolean(), nullable=False),
        sa.Column("junk", sa.Boolean(), nullable=False),
        sa.Column("remark", sa.Text(), server_default="", nullable=False),
        sa.Column("next_attempt_at", sa.BigInteger(), nullable=True),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("warn_at", sa.BigInteger(), nullable=True),
        sa.Column("lease_id", sa.BigInteger(), nullable=True),
        sa.Column("lease_expires_at", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("diagnostic", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("transport_id", "recipient_id", name=op.f("pk_transport_recipient")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_transport_recipient_due",
        "transport_recipient",
        ["state", "next_attempt_at"],
        unique=False,
        sqlite_where=sa.text("next_attempt_at IS NOT NULL"),
        postgresql_where=sa.text("next_attempt_at IS NOT NULL"),
    )
    op.create_index(
        "ix_transport_recipient_lane",
        "transport_recipient",
        ["destination", "sender", "next_attempt_at", "transport_id", "recipient_id"],
        unique=False,
        sqlite_where=sa.text("state = 2 AND destination <> ''"),
        postgresql_where=sa.text("state = 2 AND destination <> ''"),
    )
    op.create_index(
        "ix_transport_recipient_lease",
        "transport_recipient",
        ["lease_id"],
        unique=False,
        sqlite_where=sa.text("lease_id IS NOT NULL"),
        postgresql_where=sa.text("lease_id IS NOT NULL"),
    )
    op.create_index("ix_transport_recipient_path", "transport_recipient", ["forward_path"], unique=False)
    op.create_index(
        "ix_transport_recipient_sender",
        "transport_recipient",
        ["sender", "state", "next_attempt_at", "transport_id", "recipient_id"],
        unique=False,
        sqlite_where=sa.text("state = 2 AND destination > ''"),
        postgresql_where=sa.text("state = 2 AND destination > ''"),
    )
    op.create_index(
        "ix_transport_recipient_waiting",
        "transport_recipient",
        ["transport_id", "recipient_id"],
        unique=False,
        sqlite_where=sa.text("next_attempt_at IS NOT NULL"),
        postgresql_where=sa.text("next_attempt_at IS NOT NULL"),
    )
    op.create_index(
        "ix_transport_recipient_warning",
        "transport_recipient",
        ["state", "warn_at"],
        unique=False,
        sqlite_where=sa.text("warn_at IS NOT NULL"),
        postgresql_where=sa.text("warn_at IS NOT NULL"),
    )
    op.create_table(
        "upload",
        sa.Column("upload_id", sa.LargeBinary(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("received_octets", sa.BigInteger(), nullable=False),
        sa.Column("content_id", sa.BigInteger(), nullable=True),
        sa.Column("line_ends_changed", sa.Boolean(), nullable=False),
        sa.Column("request_id", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("upload_id", name=op.f("pk_upload")),
    )
    op.create_index("ix_upload_account", "upload", ["account_id"], unique=False)
    op.create_index("ix_upload_content", "upload", ["content_id"], unique=False)
    op.create_index("ix_upload_expiry", "upload", ["expires_at"], unique=False)
    op.create_table(
        "upload_piece",
        sa.Column("upload_id", sa.LargeBinary(), nullable=False),
        sa.Column("offset_octets", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("octets", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("upload_id", "offset_octets", name=op.f("pk_upload_piece")),
    )
    op.create_table(
        "used_exchange",
        sa.Column("exchange_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("exchange_id", name=op.f("pk_used_exchange")),
        comment="SASL exchanges that have come back once.",
    )
    op.create_index("ix_used_exchange_expiry", "used_exchange", ["expires_at"], unique=False)
    op.create_table(
        "account",
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("domain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("address_key", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), server_default="", nullable=False),
        sa.Column("name_key", sa.Text(), server_default="", nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("administrator", sa.Boolean(), nullable=False),
        sa.Column("sent_copy", sa.Integer(), nullable=False),
        sa.Column("credential_version", sa.BigInteger(), nullable=False),
        sa.Column("mailbox_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domain.domain_id"], name=op.f("fk_account_domain")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_account")),
        sa.UniqueConstraint("address_key", name=op.f("uq_account_address_key")),
        sa.UniqueConstraint("mailbox_id", name=op.f("uq_account_mailbox_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_account_domain_id_address_key"), "account", ["domain_id", "address_key"], unique=False)
    op.create_index(op.f("ix_account_name_key"), "account", ["name_key"], unique=False)
    op.create_table(
        "alias",
        sa.Column("alias_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("domain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("address_key", sa.Text(), nullable=False),
        sa.Column("targets", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domain.domain_id"], name=op.f("fk_alias_domain")),
        sa.PrimaryKeyConstraint("alias_id", name=op.f("pk_alias")),
        sa.UniqueConstraint("address_key", name=op.f("uq_alias_address_key")),
    )
    op.create_index(op.f("ix_alias_domain_id_address_key"), "alias", ["domain_id", "address_key"], unique=False)
    op.create_table(
        "domain_key",
        sa.Column("key_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("domain_id", sa.BigInteger(), nullable=False),
        sa.Column("selector", sa.Text(), nullable=False),
        sa.Column("algorithm", sa.Integer(), nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=True),
        sa.Column("prepared_at", sa.BigInteger(), nullable=False),
        sa.Column("activated_at", sa.BigInteger(), nullable=True),
        sa.Column("retired_at", sa.BigInteger(), nullable=True),
        sa.Column("publish_until", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domain.domain_id"], name=op.f("fk_domain_key_domain"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_domain_key")),
        sa.UniqueConstraint("domain_id", "selector", name=op.f("uq_domain_key_domain_id_selector")),
        comment="Keys that sign a domain's outbound mail (DKIM).",
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_domain_key_active",
        "domain_key",
        ["domain_id", "algorithm"],
        unique=True,
        sqlite_where=sa.text("state = 2"),
        postgresql_where=sa.text("state = 2"),
    )
    op.create_table(
        "report_delivery",
        sa.Column("report_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("lease_id", sa.BigInteger(), nullable=True),
        sa.Column("next_attempt_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["report_id"], ["report.report_id"], name=op.f("fk_report_delivery_report"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("report_id", "number", name=op.f("pk_report_delivery")),
        comment="Web servers that get a sent TLS report (RFC 8460 5.4).",
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_report_delivery_due",
        "report_delivery",
        ["next_attempt_at"],
        unique=False,
        sqlite_where=sa.text("next_attempt_at IS NOT NULL"),
        postgresql_where=sa.text("next_attempt_at IS NOT NULL"),
    )
    op.create_table(
        "credential",
        sa.Column("account_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("credential_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("verifier", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), server_default="", nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.account_id"], name=op.f("fk_credential_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("account_id", "credential_id", name=op.f("pk_credential")),
    )
