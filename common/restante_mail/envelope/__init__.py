"""The transport envelope: paths and the parameters of MAIL and RCPT (RFC 5321, RFC 3461). Pure."""
