"""The use of the core's contract that all gateways share: login, account sessions, uploads, retries, failover."""
