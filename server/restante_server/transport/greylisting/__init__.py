"""Greylisting (RFC 6647): mail of unknown clients is deferred once (docs/design.md "Greylisting")."""
