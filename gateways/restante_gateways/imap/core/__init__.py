"""The IMAP gateway's calls to the core."""
