"""Inbound mail: reading it from the gateway and delivering it into mailboxes."""
