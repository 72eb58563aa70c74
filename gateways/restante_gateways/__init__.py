"""The gateways: SMTP, POP3, IMAP and the relay, each a client of the core that keeps no state worth keeping."""
