"""SMTP receiving: mail from other MTAs (mx) and from our own users (submission)."""
