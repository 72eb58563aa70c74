"""Jobs: their rows, their leases, and the runner (docs/design.md "Jobs")."""
