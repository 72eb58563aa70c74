"""Responsibility for mail: accepted, delivered, queued, relayed, reported."""
