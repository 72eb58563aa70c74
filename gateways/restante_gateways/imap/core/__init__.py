"""The core as IMAP sees it."""
