"""Real mail servers and filters on loopback, for tests beside a whole installation of ours."""
