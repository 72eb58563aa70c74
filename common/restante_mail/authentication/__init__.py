"""Authentication of messages: SPF, DKIM, DMARC and ARC. *Pure.* DNS lookups go through the protocol in `dns`."""
