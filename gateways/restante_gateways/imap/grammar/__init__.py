"""IMAP as it is written: framing, parsing, encoding, and the values between. *Pure.*"""
