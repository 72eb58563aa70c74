"""The POP3 gateway: RFC 1939 with CAPA, STLS, SASL, pipelining and response codes."""
