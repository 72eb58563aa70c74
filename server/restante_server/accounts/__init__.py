"""Accounts with their mailboxes: made, changed and removed, directory and store together."""
