"""The SMTP server: mail from other MTAs (mx) and from this installation's users (submission)."""
