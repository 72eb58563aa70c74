"""The relay: it leases outbound mail from the core and sends it to other servers."""
