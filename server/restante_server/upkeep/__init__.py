"""Maintenance of the store: checks, backups, sweeps."""
