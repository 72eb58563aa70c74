"""Mailboxes, folders, messages and contents: plain functions of an open transaction, one module per aggregate."""
