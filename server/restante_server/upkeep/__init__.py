"""What the store needs now and then: checks, backups, sweeps."""
