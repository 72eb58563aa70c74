"""Octets as text, text as it is compared, and the text of HTML. Pure."""
