"""Mail that enters a mailbox."""
