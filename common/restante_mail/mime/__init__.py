"""Contents: the tree of parts, its stored form, its text, and messages made from parts (RFC 2045 to 2049). Pure."""
