"""The parts of all tables: the metadata that collects them, and marks of their columns."""

from sqlalchemy import BigInteger, Integer, MetaData

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# On SQLite only INTEGER PRIMARY KEY is the rowid, which SQLite assigns; elsewhere BIGINT.
RowId = BigInteger().with_variant(Integer(), "sqlite")

# Marks a column that names a content as holding it or not; the collector removes contents that no column holds.
HOLDS_CONTENT = {"holds": "content"}
NAMES_CONTENT = {"names": "content"}
