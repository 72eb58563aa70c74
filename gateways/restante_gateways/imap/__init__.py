"""The IMAP gateway: IMAP4rev1 (RFC 3501) and its extensions on one side, the core's API on the other."""
