"""Creating, changing and removing accounts with their mailboxes, in directory and store together."""
