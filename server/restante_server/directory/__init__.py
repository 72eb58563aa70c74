"""Who is here: domains, accounts, aliases, credentials and sessions."""
