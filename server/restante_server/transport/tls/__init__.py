"""TLS with other mail servers: MTA-STS policies that relays have fetched, and their counted sessions."""
