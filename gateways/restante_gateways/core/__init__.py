"""The parts of the core's contract that every gateway uses: login, account sessions, uploads, retries, failover."""
