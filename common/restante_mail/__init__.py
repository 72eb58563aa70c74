"""Internet messages: octets to parts, facts, text and back (RFC 5322, RFC 2045 to 2049, RFC 2231). Pure."""
