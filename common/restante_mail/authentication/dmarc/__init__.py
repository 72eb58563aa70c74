"""DMARC (RFC 9989): the author's domain, policy records, the DNS tree walk, and the evaluation. *Pure.*"""
