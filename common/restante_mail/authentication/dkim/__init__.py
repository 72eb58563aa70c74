"""DKIM signatures (RFC 6376, RFC 8301, RFC 8463): verified while a message comes, and made. *Pure.*

`verify` and `sign` are the two ends. `tags`, `canonicalization`, `signatures` and `records` have the grammar, `content`
reads the octets of a message once for all signatures, `signing_keys` has our private keys.
"""
