"""The common base of all processes: configuration, logs, metrics, health over HTTP, certificates.

It imports no other package of Restante.
"""
