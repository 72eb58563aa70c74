"""Checks of inbound mail: the client's name and lists at the connection, SPF at MAIL, the rest with the content."""
