"""TLS of the relay: the policies of a destination (MTA-STS, DANE), their enforcement, and the counted sessions."""
