"""How far each export has come; the audit service alone writes here."""

from sqlalchemy import BigInteger, Column, Table, Text

from nightingale_hub.tables.base import metadata

audit_export = Table(
    "audit_export",
    metadata,
    Column("name", Text, primary_key=True),
    # Delivered, with all before it.
    Column("batch_number", BigInteger, nullable=False, server_default="0"),
    Column("finding_id", BigInteger, nullable=False, server_default="0"),
    Column("sent", BigInteger, nullable=False, server_default="0"),  # documents
    Column("refused", BigInteger, nullable=False, server_default="0"),
    Column("delivered_us", BigInteger),
    Column("error", Text, nullable=False, server_default=""),  # why it waits; empty: it does not
    Column("error_us", BigInteger),  # since when
)
