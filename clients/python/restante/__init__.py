"""Restante's client library and command line, and the contract (`restante.v1`, `restante.errors`)."""

__version__ = "0.1.0"
