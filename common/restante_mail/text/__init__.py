"""Decoding of charsets, folding of text for search, and the text of HTML. Pure."""
