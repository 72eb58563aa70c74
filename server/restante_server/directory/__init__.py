"""The directory: domains, accounts, aliases, credentials and sessions."""
