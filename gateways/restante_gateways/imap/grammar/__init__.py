"""IMAP syntax: framing, parsing, encoding, and the parsed values. *Pure.*"""
