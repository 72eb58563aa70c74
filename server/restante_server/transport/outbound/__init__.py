"""Outbound mail: checking authorship, completing submissions, leasing work to relays, reporting to senders."""
