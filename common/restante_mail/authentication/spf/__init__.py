"""SPF (RFC 7208): the grammar of records, macros, and check_host. *Pure.*"""
