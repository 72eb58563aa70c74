"""The core server: owns all state, speaks gRPC, and has never heard of IMAP, POP3 or SMTP."""
