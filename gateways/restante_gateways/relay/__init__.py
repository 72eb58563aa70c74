"""The relay: leases outbound mail from the core and hands it to other servers."""
