"""Mail that leaves: authorship checked, submissions completed, leases for relays, reports to senders."""
