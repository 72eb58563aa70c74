"""Greylisting: combinations of client, sender and recipient, and those who pass without."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, Text

from restante_server.db.schema.base import metadata

greylist_triplet = Table(
    "greylist_triplet",
    metadata,
    Column("triplet_key", LargeBinary, primary_key=True),  # digest of the next three
    Column("network", Text, nullable=False),  # of the client: a /24 or /64
    Column("reverse_path", Text, nullable=False),  # without what changes from message to message; "": the null path
    Column("recipient", Text, nullable=False, index=True),  # Path.key
    Column("is_known", Boolean, nullable=False),  # retried in time; else it was deferred
    Column("first_at", BigInteger, nullable=False),
    Column("used_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_greylist_triplet_network", "network", "triplet_key"),
    Index("ix_greylist_triplet_expiry", "is_known", "expires_at"),
    comment="Combinations from which mail has come to domains with greylisting.",
)

greylist_pass = Table(
    "greylist_pass",
    metadata,
    Column("subject", Text, primary_key=True),  # a network of clients, or the Path.key of a recipient
    Column("is_allowed", Boolean, nullable=False),  # by an administrator
    Column("times", Integer, nullable=False),  # triplets of the network that were retried in time, at most one an hour
    Column("counted_at", BigInteger, nullable=False),
    Column("used_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, index=True),  # NULL: never, as it is allowed
    comment="Networks and recipients whose mail passes greylisting.",
)
