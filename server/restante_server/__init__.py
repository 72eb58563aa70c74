"""The core server: it owns all state, speaks gRPC, and contains nothing of IMAP, POP3 or SMTP."""
