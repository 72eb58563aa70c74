"""Header blocks: fields, their values as text, addresses and dates, and edits (RFC 5322, RFC 2047). Pure."""
