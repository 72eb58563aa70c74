"""ARC: chains of sealed authentication results (RFC 8617), validated while a message comes, and sealed. *Pure.*"""
