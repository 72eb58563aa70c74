"""Sockets, TLS, limits, logs and metrics: what every gateway shares, and no protocol."""
