"""Sockets, TLS, limits, logs and metrics, shared by all gateways and independent of the mail protocol."""
