"""Identities: domains, accounts, aliases, credentials and sessions."""
